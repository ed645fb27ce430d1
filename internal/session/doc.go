// Package session keeps sessions on the volume: what was asked, what happened, and where each one stands.
//
// A session is a directory of two files. The event log, events.jsonl, is the truth: a line for each event,
// appended and never changed, whose index is the event's id. The snapshot, session.json, is what the log
// adds up to as far as a given byte of it, so that reading ten thousand sessions does not mean reading
// their logs; lines beyond that byte are added up when the store is opened.
//
//	<data>/
//	  lock                       held (flock) by the daemon that uses the volume
//	  spool/<id>/                a session that is being created; not accepted yet
//	  sessions/<id>/session.json version 1, written beside, synced and renamed
//	  sessions/<id>/events.jsonl
//
// What a crash can leave, and what becomes of it: a directory in spool (removed: nobody was told that it
// was accepted), a snapshot older than the log (the log's further lines are added up), a last line
// without its end (cut off: its event was acknowledged to nobody).
//
// State changes, messages and requests to stop are on the disk before their writer is told so. Lines of Claude Code's output
// are written at once, which a killed daemon survives, and synced within SyncAfter, which bounds what a lost
// machine can lose; Claude Code's own transcript has them too.
package session
