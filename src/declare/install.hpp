// Creating the extension as a dump of an older version asks for it.
#pragma once
#include "pg/pg.hpp"

namespace declare {

// The statement to be run for one that creates this extension; any other as it is.
PlannedStmt *installing_here(PlannedStmt *statement);

} // namespace declare
