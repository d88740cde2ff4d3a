// DDL that a projection's definition is in the way of.
#pragma once
#include "catalog/projection.hpp"

namespace declare {

// Takes a projection off its sources before a command that its definition is in the way of; false where that is not
// its business. Set while alter_source() runs its text (operate/alter_source.cpp), and null otherwise.
using TakeOff = bool (*)(catalog::Projection &projection);
extern TakeOff take_off;

// Before ALTER TABLE drops or retypes a column, or DROP TABLE a table, that definitions read: raises 2BP01 with what to
// do, as core would name a hidden view. What CASCADE takes along it lets through.
void refuse_used(const AlterTableStmt *statement);
void refuse_used(const DropStmt *statement);

} // namespace declare
