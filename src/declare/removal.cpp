// The extension goes with DROP EXTENSION, but also with whatever it or one of its members depends on: the language of
// its functions, its owner's objects, in databases of version 0.2.0 the schema that it was created in. All of them end
// at the same place, which asks before each object goes; so what is refused is that our tables go, whatever the command
// is called. (Test: sql/uninstall.)
#include "declare/removal.hpp"

#include "catalog/projection.hpp"
#include "pg/list.hpp"
#include "pg/scope.hpp"

namespace declare {
namespace {

// What keeps the extension: the tables whose rows would be lost. A row's first column says which it is.
constexpr struct {
    const char *table;
    bool is_public;
    const char *one, *many;
    Oid find() const {
        Oid schema = is_public ? pg::public_schema_oid(true) : pg::own_schema_oid(true);
        return OidIsValid(schema) ? get_relname_relid(table, schema) : InvalidOid;
    }
} kept[] = {{"projection", false, "projection", "projections"},
            {"source", false, "event source", "event sources"},
            {"events", true, "events", "events"},
            {"events_archive", true, "archived events", "archived events"},
            {"streams", true, "stream", "streams"},
            {"subscription", false, "subscription", "subscriptions"}};

constinit object_access_hook_type next_object_access = nullptr;

// Which command names the extension and says CASCADE: the one before which the event trigger ran in this
// subtransaction.
struct {
    bool said;
    TimestampTz transaction;
    SubTransactionId subtransaction;
} constinit on_purpose = {};

void note_purpose(bool said) {
    on_purpose = {said, GetCurrentTransactionStartTimestamp(), GetCurrentSubTransactionId()};
}

bool is_on_purpose() {
    return on_purpose.said && on_purpose.transaction == GetCurrentTransactionStartTimestamp() &&
           on_purpose.subtransaction == GetCurrentSubTransactionId();
}

// Our own event store comes with the extension, and may have gone before the row that says that it is a source.
bool is_our_own_source(Oid table, Datum first) {
    if (strcmp(get_rel_name(table), "source") != 0) return false;
    Oid source = DatumGetObjectId(first);
    return get_rel_name(source) == nullptr || source == get_relname_relid("events", pg::public_schema_oid(true));
}

const char *name_of(Oid type, Datum first) {
    if (type == REGCLASSOID) return pg::qualified_name(DatumGetObjectId(first));
    if (type == TEXTOID) return TextDatumGetCString(first);
    return nullptr; // a position says nothing to anybody
}

// Up to five of a table's rows. Read in physical order and only the first column: an index or the TOAST table may have
// been dropped before.
void describe_rows(StringInfo detail, Oid oid, const char *one, const char *many) {
    Relation table = table_open(oid, AccessShareLock);
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
    Oid type = TupleDescAttr(RelationGetDescr(table), 0)->atttypid;
    pg::TextList names;
    int count = 0;
    while (HeapTuple tuple = systable_getnext(scan)) {
        bool null;
        Datum first = heap_getattr(tuple, 1, RelationGetDescr(table), &null);
        if (is_our_own_source(oid, first)) continue;
        if (++count > 5) break;
        const char *name = name_of(type, first);
        if (name) names.add("%s", name);
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    if (count == 0) return;
    if (count > 5) names.add("…");
    appendStringInfo(detail, "%s%s", detail->len ? "; " : "", count == 1 ? one : many);
    if (type == REGCLASSOID || type == TEXTOID) appendStringInfo(detail, " %s", names.text());
}

void refuse_in_use() {
    StringInfoData detail;
    initStringInfo(&detail);
    for (const auto &each : kept) {
        Oid table = each.find();
        if (OidIsValid(table)) describe_rows(&detail, table, each.one, each.many);
    }
    if (detail.len == 0) return;
    ereport(ERROR,
            (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
             errmsg("cannot drop extension pg_projections because it is in use"),
             errdetail("It keeps %s.", detail.data),
             errhint("To lose them on purpose: DROP EXTENSION pg_projections CASCADE, which leaves projections as "
                     "plain tables that nothing maintains, and drops events, streams and subscriptions.")));
}

bool holds_rows_of_ours(Oid relation) {
    return pg::is_own_schema(get_rel_namespace(relation)) &&
           std::any_of(std::begin(kept), std::end(kept), [&](auto &each) { return each.find() == relation; }) &&
           OidIsValid(getExtensionOfObject(RelationRelationId, relation));
}

// Before the first of our tables goes, with locks on all of them: nobody adds a row meanwhile.
void object_access(ObjectAccessType access, Oid catalog, Oid object, int part, void *argument) {
    if (next_object_access) next_object_access(access, catalog, object, part, argument);
    if (access != OAT_DROP || catalog != RelationRelationId || part != 0 || !IsTransactionState()) return;
    if (!is_on_purpose() && holds_rows_of_ours(object)) refuse_in_use();
}

bool names_extension(const DropStmt *drop) {
    if (drop->removeType != OBJECT_EXTENSION) return false;
    for (Node *object : pg::each<Node>(drop->objects))
        if (strcmp(strVal(object), "pg_projections") == 0) return true;
    return false;
}

} // namespace

void refuse_removal_in_use() {
    next_object_access = object_access_hook;
    object_access_hook = object_access;
}

// Without CASCADE core would be first to refuse, because of triggers that users have not made, and advise CASCADE.
void before_removal(const Node *command) {
    auto *drop = IsA(command, DropStmt) ? reinterpret_cast<const DropStmt *>(command) : nullptr;
    bool named = drop && names_extension(drop);
    note_purpose(named && drop->behavior == DROP_CASCADE);
    if (named && drop->behavior != DROP_CASCADE) refuse_in_use();
}

} // namespace declare

extern "C" {

PG_FUNCTION_INFO_V1(projections_before_removal);
// Event trigger, ddl_command_start: also loads the library, whose hook refuses, in sessions that have not.
Datum projections_before_removal(PG_FUNCTION_ARGS) {
    if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("projections_internal._before_removal() is an event trigger function")));
    declare::before_removal(reinterpret_cast<EventTriggerData *>(fcinfo->context)->parsetree);
    PG_RETURN_NULL();
}

} // extern "C"
