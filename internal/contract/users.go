package contract

// As root, berthd runs each session as a user and a group of its own, with the same number. They are in no database:
// nobody else may have them.
//
// Above 199999 are neither people nor services of the usual distributions (systemd's list: https://systemd.io/UIDS-GIDS/),
// and up to 2097151 every tool can write the number down: the tar format has seven octal digits for it. The killer of a
// session's processes has a number of its own too, SessionUIDs above the session's.
const (
	SessionUIDFirst = 200_000
	SessionUIDs     = 900_000

	// Where only 65536 users are mapped, as in a container without root's rights outside of it.
	SmallSessionUIDFirst = 20_000
	SmallSessionUIDs     = 20_000
)
