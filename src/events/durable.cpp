// What readers outside the database remember must not be taken back.
//
// A transaction that commits with synchronous_commit = off is seen by others before it is on disk. After a crash it has
// never been, and the sequence draws its positions again, for other events: a reader that went by them would miss
// those. So before positions are handed out, everything is flushed that has been written by then, which includes the
// commits of all events up to the safe position, as their transactions have ended, and the sequence's own records.
// Where nothing is pending that is a comparison. (test/t/030_durable_positions.pl)
#include "pg/pg.hpp"

namespace {

// The end of the WAL so far. At a page's beginning, the next record would come after the page's header, which is not
// there yet.
XLogRecPtr written_so_far() {
    XLogRecPtr end = GetXLogInsertRecPtr();
    if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD) return end - SizeOfXLogLongPHD;
    if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD) return end - SizeOfXLogShortPHD;
    return end;
}

} // namespace

extern "C" {

PG_FUNCTION_INFO_V1(projections_flush_wal);
Datum projections_flush_wal(PG_FUNCTION_ARGS) {
    static_cast<void>(fcinfo);
    if (!RecoveryInProgress()) XLogFlush(written_so_far());
    PG_RETURN_VOID();
}

} // extern "C"
