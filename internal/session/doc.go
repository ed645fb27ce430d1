// Package session keeps sessions on the volume: what was asked, what happened, and where each one stands.
//
// A session is a directory. The event log, events.jsonl, is the truth: a line for each event,
// appended and never changed, whose index is the event's id. The snapshot, session.json, is what the log
// adds up to as far as a given byte of it, so that reading ten thousand sessions does not mean reading
// their logs; lines beyond that byte are added up when the store is opened.
//
//	<data>/
//	  format.json                      the version of the format; a later one is refused, an earlier one is migrated
//	  daemons/<owner>.json             a daemon that uses the volume, renewed now and then
//	  spool/new.<owner>.<id>/          a session that is being created; not accepted yet
//	  spool/old.<owner>.<id>/          one that was removed, until what is elsewhere of it is too
//	  spool/mail.<id>.<uuid>.json      a message, or a request to stop, for a session that another daemon holds
//	  sessions/<id>/session.json       written beside, synced and renamed
//	  sessions/<id>/events.jsonl
//	  sessions/<id>/transcript.jsonl   a copy of Claude Code's own transcript, whole lines, synced
//	  sessions/<id>/lease.<epoch>      while a daemon holds the session: owner, epoch, renewed (see lease.go)
//	  sessions/<id>/lease.json         the same file by another name
//	  keys/<sha-256>                   a link to <id>.<sum of the task>: which session an idempotency key has, or will have
//
// Several daemons may use a volume. Only the one that holds a session writes to it; see Session.Hold. What others have
// written is read again by Refresh.
//
// What a crash can leave, and what becomes of it: a directory in spool (removed when its daemon is known to be gone:
// nobody was told that it was accepted), a snapshot older than the log (the log's further lines are added up), none, or a damaged one (made anew
// from the log, whose first line has the task), or one of another log (what it adds up to is checked against the log's bytes; the log is read from its beginning), a last line
// without its end (cut off: its event was acknowledged to nobody), a lease (taken over, at once if its owner is known to be
// dead, else when it has run out), files that were being written (removed by the next owner), a removal that was cut off (finished; see
// Store.FinishRemovals), a key without a session (its next request makes it).
//
// A session that cannot be read is left as it is, and told of. If the reading failed, and not what was read, it is tried again.
//
// State changes, messages, requests to stop and what was made of the work dir are on the disk before their writer is told
// so. Lines of Claude Code's output are written at once, which a killed daemon survives, and synced within SyncAfter, which
// bounds what a lost machine can lose; the transcript has them before, and synced.
package session
