// Kinds of utility commands.
#pragma once
#include "pg/pg.hpp"

namespace pg {

// Commands that read and write no table's rows themselves: what they execute, if anything, is a plan and passes through
// the executor's hooks.
inline bool touches_no_rows(const Node *command) {
    switch (nodeTag(command)) {
    case T_TransactionStmt:
    case T_VariableSetStmt:
    case T_VariableShowStmt:
    case T_FetchStmt:
    case T_ClosePortalStmt:
    case T_DoStmt:
    case T_CallStmt:
    case T_PrepareStmt:
    case T_ExecuteStmt:
    case T_DeallocateStmt:
    case T_ExplainStmt:
    case T_NotifyStmt:
    case T_LockStmt:
    case T_ConstraintsSetStmt:
    case T_DeclareCursorStmt: return true;
    default: return false;
    }
}

} // namespace pg
