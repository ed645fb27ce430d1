package workspace

import (
	"context"
	"log/slog"
	"sync"
)

// MirrorConfig is how Mirrors are set up. All of it may be left out.
type MirrorConfig struct {
	// Credential returns the user and the token for a host (with its port, if the URL names one), or two empty
	// strings. It is asked every time, and only for https; the token goes to that host and to nobody else.
	Credential func(host string) (user, token string)

	// GitHubAPI is the address of GitHub's REST API; that of github.com if empty. Repositories on its host, and
	// those on github.com while it is empty, get a pull request.
	GitHubAPI string

	// Closed are the directories that no local repository may lie in: the agent's own, and the sessions'.
	Closed []string

	// Temporary is a directory on local disk for what lasts as long as a call; the system's if empty. Whoever
	// starts the agent may empty it: a killed one leaves things there. No session may be able to enter it.
	Temporary string

	Logger *slog.Logger
}

// Mirrors are the bare repositories on the volume: a clone cache that sessions share, and the home of their
// checkpoints, as refs/berth/<id>. Several processes on several machines may use one directory of them at once.
type Mirrors struct {
	dir    string
	config MirrorConfig
	log    *slog.Logger

	mu      sync.Mutex
	fetch   map[string]*fetching    // by path
	places  map[string]*placeLocked // by scratch directory
	known   map[string]*known       // by mirror and session
	origins map[string]*fetched     // by path

	added    map[string]int64 // bytes, by scratch directory, since it was tidied
	slack    int64            // how many it may be
	suspects map[string]bool  // scratch directories of trees whose repositories turned out to be broken

	listings *listings
}

// Place is where a session works on local disk. The directories that Tree and Scratch lie in must not be
// writable for the session's user.
type Place struct {
	ID     string // the session's
	Source Source
	Branch string // that it works on: berth/<short id>; main without a repository

	Tree    string // its work tree
	Scratch string // for our own repository and index beside it; made here

	// Run is the command under which git, and rm and cp, are run where a session could have laid traps: in its
	// tree and in Scratch. Such a command switches to the session's user; it keeps the environment, the
	// directory and the open files, and it replaces itself, so that the process can be killed. A change of user
	// makes Linux forget that a process is to die with its parent (prctl(2)), so it has to ask for that again
	// (setpriv --pdeathsig KILL). Empty if sessions run as the agent's own user.
	Run []string

	// Own gives everything below a path, and the path itself, to the session's user. It is called on what nobody
	// else can reach yet. Nil if sessions run as the agent's own user.
	Own func(path string) error
}

// Request says how work is to be delivered.
type Request struct {
	Title string // of the pull request, and of the commit with what the session did not commit
	Body  string // of the pull request
	Base  string // the commit that the session started from; the checkpoint knows it too
}

// NewMirrors returns the mirrors in a directory, which is made when it is needed.
func NewMirrors(dir string, config MirrorConfig) *Mirrors {
	logger := config.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Mirrors{
		dir: dir, config: config, log: logger,
		fetch: map[string]*fetching{}, places: map[string]*placeLocked{}, known: map[string]*known{}, origins: map[string]*fetched{}, suspects: map[string]bool{}, added: map[string]int64{}, slack: scratchSlack,
		listings: newListings(),
	}
}

// Dir is the directory of the mirrors.
func (m *Mirrors) Dir() string { return m.dir }

// placeLocked keeps a diff and a checkpoint from using one index at a time.
type placeLocked struct {
	free  chan struct{}
	users int
}

// lockPlace waits until nobody else works in a place's Scratch. The caller has to call unlock.
func (m *Mirrors) lockPlace(ctx context.Context, scratch string) (unlock func(), err error) {
	m.mu.Lock()
	place := m.places[scratch]
	if place == nil {
		place = &placeLocked{free: make(chan struct{}, 1)}
		m.places[scratch] = place
	}
	place.users++
	m.mu.Unlock()
	leave := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if place.users--; place.users == 0 {
			delete(m.places, scratch)
		}
	}
	select {
	case place.free <- struct{}{}:
		return func() { <-place.free; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
