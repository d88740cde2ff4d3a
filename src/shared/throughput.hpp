// How fast events are applied: per projection and minute, in shared memory, until a worker writes complete minutes to
// projections_internal.throughput_minute. A batch adds to it once, when its transaction has committed: some counters
// and one bucket of a histogram, under a lock of its own that is held for so long.
//
// Where no worker will write it (no shared memory, or pg_projections.workers is 0), catch_up() writes what it did
// itself, in its transaction. What shared memory holds is lost in a crash: at most the last minute or two.
#pragma once
#include "pg/pg.hpp"

namespace shared {

extern int throughput_retention; // minutes

// Two buckets for each doubling: below 64 µs, up to 96, up to 128, up to 192 … and the last one above 400 s.
constexpr int bucket_count = 48;

struct Applied {
    Oid projection;
    int64 minute; // since 2000
    int64 events, errors, batches, microseconds;
    int32 buckets[bucket_count];
};

// At the server's start: how much shared memory it takes, and making the table there.
Size throughput_size();
void start_throughput(LWLock *lock);

// A batch was applied in this transaction; it counts when that commits. `begins` is taken at the batch's begin.
// To the commit: the transaction is nothing but the batch, whose time the commit is part of.
enum class Lasts { as_noted, to_the_commit };
void note_batch(Oid projection, int64 events, TimestampTz began, Lasts lasts);

// An inline projection was read again as a whole in this transaction: a batch of no events, which counts as one.
void note_refresh(Oid projection, TimestampTz began);

// An event failed in the batch that is being applied, and was recorded.
void note_failed_event();

// Forgets failed events that belong to no batch.
void begin_batch();

// A batch was rolled back as a whole.
void count_failed_batch(Oid projection, TimestampTz began);

// The transaction has ended. Never raises.
void count_noted(bool committed);

// Writes what this transaction has noted, in it, if no worker will.
void write_noted();

enum class Minutes { complete, all };
// Writes this database's minutes to the table, in a transaction of its own, where there are any to be written.
void write_throughput(Minutes which);
bool throughput_due();

// The extension is not there any more.
void forget_throughput();

} // namespace shared
