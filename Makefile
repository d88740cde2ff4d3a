# PGXS:            make, make install, make installcheck, make clean; PG_CONFIG=... selects the server
# From nothing:    make test, make demo; each installs what is missing, stages the build, starts a server, and removes it
EXTENSION   = pg_projections
MODULE_big  = $(EXTENSION)
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(EXTENSION).control)
OBJS        = $(patsubst %.cpp,%.o,$(sort $(wildcard src/*.cpp src/*/*.cpp)))
# Install scripts of released versions are kept as they were; the scripts between them and this one are made.
DATA        = $(wildcard src/released/$(EXTENSION)--*.sql)
RELEASED    = $(patsubst src/released/$(EXTENSION)--%.sql,%,$(DATA))
DATA_built  = $(EXTENSION)--$(EXTVERSION).sql \
              $(foreach version,$(RELEASED),$(EXTENSION)--$(version)--$(EXTVERSION).sql $(EXTENSION)--$(EXTVERSION)--$(version).sql)

# install creates the extension and the oracle that the other tests use.
REGRESS        = install $(filter-out install,$(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql))))
ISOLATION      = $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation --use-existing
ifneq ($(strip $(ISOLATION)),)
REGRESS_PREP   = isolation-database
endif

EXTRA_CLEAN = $(OBJS:.o=.d) .built-for $(EXTENSION)-*.zip

PG_CONFIG  ?= pg_config
# -isystem: the warnings below are for our code, not for the server's headers.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) -Isrc -DPROJECTIONS_VERSION='"$(EXTVERSION)"' -MMD -MP
# One error mechanism: ereport. Without exceptions, type information and guarded statics nothing of libstdc++ is linked;
# test/symbols checks it. The server's headers up to 15 use the keyword register, and PG_TRY shadows its own variables.
PG_CXXFLAGS = -std=c++20 -fno-exceptions -fno-rtti -fno-threadsafe-statics -DBOOST_CONTAINER_USER_DEFINED_THROW_CALLBACKS \
              -Wall -Wextra -Wshadow -Wno-register $(COPT)
# The server loads libraries with RTLD_GLOBAL: another one with Boost's throw callbacks would otherwise replace ours.
SHLIB_LINK  = -Wl,-Bsymbolic

# What installs the server's packages must run before there is a pg_config.
standalone = test demo dist
ifneq ($(filter-out $(standalone),$(or $(MAKECMDGOALS),all)),)
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error $(PG_CONFIG) does not run: install the server's development package, or set PG_CONFIG)
endif
# Bitcode serves inlining small functions into queries; there are none, and it would need clang.
override with_llvm = no
include $(PGXS)
endif

$(EXTENSION)--$(EXTVERSION).sql: $(sort $(wildcard src/schema/*.sql)) $(EXTENSION).control
	cat $(filter %.sql,$^) > $@

difference = awk -f src/updates/difference -v library=$(EXTVERSION)
$(EXTENSION)--%--$(EXTVERSION).sql: src/released/$(EXTENSION)--%.sql $(EXTENSION)--$(EXTVERSION).sql $(wildcard src/updates/*)
	$(difference) $< $(word 2,$^) $(wildcard src/updates/$*--$(EXTVERSION).sql) > $@
$(EXTENSION)--$(EXTVERSION)--%.sql: src/released/$(EXTENSION)--%.sql $(EXTENSION)--$(EXTVERSION).sql $(wildcard src/updates/*)
	$(difference) $(word 2,$^) $< $(wildcard src/updates/$(EXTVERSION)--$*.sql) > $@
.DELETE_ON_ERROR:

# Objects made for one server do not load in another: a change of PG_CONFIG or of the compiler rebuilds them.
built_for = $(shell $(PG_CONFIG) --version), $(shell $(CXX) --version | head -n 1), $(EXTVERSION)
.built-for: FORCE
	@echo '$(built_for)' | cmp -s - $@ || echo '$(built_for)' > $@
$(OBJS): .built-for
-include $(OBJS:.o=.d)

# Specs cannot include a file: the database they run in has the extension and the oracle already.
isolation-database:
	$(bindir)/psql -X -q -v ON_ERROR_STOP=1 -d postgres -c 'DROP DATABASE IF EXISTS $(ISOLATION_TESTDB)' \
	    -c 'CREATE DATABASE $(ISOLATION_TESTDB)'
	$(bindir)/psql -X -q -v ON_ERROR_STOP=1 -d $(ISOLATION_TESTDB) -c 'CREATE EXTENSION $(EXTENSION)' -f test/oracle.sql

# With it, cd prints.
unexport CDPATH

test:
	test/run

demo:
	test/server bash -c 'examples/retail/run && examples/warehouse/run && examples/documents/run && printf "\nremoving the server\n"'
	@echo 'The demo has ended: after every step each projection was what its definition says.'

dist:
	git archive --prefix=$(EXTENSION)-$(EXTVERSION)/ -o $(EXTENSION)-$(EXTVERSION).zip HEAD

.PHONY: test demo dist isolation-database FORCE
