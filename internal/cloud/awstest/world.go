// Package awstest stands in for AWS at the wire: one HTTP server on loopback that answers the calls that berth and the fake CDK CLI
// make, from plain state that a test sets. It knows nothing of the types that berth uses.
//
// A service has a file with its calls. Each call is recorded, and any can be made to fail.
package awstest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Account and Region are where everything in a World is.
const (
	Account = "123456789012"
	Region  = "us-east-1"
)

// World is an AWS account in one region. Its fields may be set before the first request, and later within Change.
type World struct {
	mu     sync.Mutex
	server *httptest.Server
	calls  []Call
	fails  []*Failure
	hooks  []hook

	Now func() time.Time

	Stacks   map[string]*Stack // by name
	Services map[string]*Service
	Images   map[string][]Image // by repository
	Secrets  map[string]*Secret // by name
	LogLines map[string][]LogLine
	Alarms   []Alarm
	Quotas   map[string]float64 // by code
	VPCs     []VPC

	// Rollout is what becomes of a task that a service starts.
	Rollout Rollout

	// Extra is for services that have files of their own, by the name of the field they would have here.
	Extra map[string]any
}

// Call is a request that came.
type Call struct {
	Service, Action string // such as "ecs", "DescribeServices"
	Mutating        bool
	Input           map[string]any // of a JSON or CBOR request; a Query request's parameters are strings by their names
	Path            string
	Region          string
}

func (c Call) String() string { return c.Service + ":" + c.Action }

// Text is a parameter of the call, "" if there is none.
func (c Call) Text(name string) string { text, _ := c.Input[name].(string); return text }

// List is a parameter that is a list of strings.
func (c Call) List(name string) (all []string) {
	if list, is := c.Input[name].([]any); is {
		for _, each := range list {
			all = append(all, fmt.Sprint(each))
		}
		return all
	}
	for i := 1; ; i++ {
		value, found := c.Input[name+".member."+strconv.Itoa(i)]
		if !found {
			return all
		}
		all = append(all, fmt.Sprint(value))
	}
}

// Failure makes calls fail. Kinds: denied, throttled, expired, unknown (credentials), cut (the connection), broken (status 500).
type Failure struct {
	Call  string // a pattern of path.Match over "service:Action", such as "ecs:*"
	Kind  string
	After int // so many calls pass first
	Times int // so many fail; 0: all
}

type hook struct {
	call string
	do   func()
}

// Fault is an error that AWS answers with.
type Fault struct {
	Status        int
	Code, Message string
}

func (f *Fault) Error() string { return f.Code + ": " + f.Message }

// Handler answers a call with what becomes JSON, CBOR or XML; an error that is a *Fault is AWS's. The world is locked meanwhile.
type Handler func(w *World, c Call) (any, error)

// handlers are the calls of each service. Files of services add theirs with register.
var handlers = map[string]map[string]Handler{}

// register adds calls of a service, by the name in the scope of a signature.
func register(service string, calls map[string]Handler) struct{} { //nolint:unparam // a result, so that it can be called beside a variable
	if handlers[service] == nil {
		handlers[service] = map[string]Handler{}
	}
	maps.Copy(handlers[service], calls)
	return struct{}{}
}

// rest are the services whose calls are told by method and path: each names the call of a request, and adds what is in the path to its input.
var rest = map[string]func(method, path string, query url.Values, input map[string]any) string{}

// New makes a World with nothing in it but a default VPC and the usual quotas. Serve starts it.
func New() *World {
	return &World{
		Now:    time.Now,
		Stacks: map[string]*Stack{}, Services: map[string]*Service{}, Images: map[string][]Image{}, Secrets: map[string]*Secret{}, LogLines: map[string][]LogLine{},
		Quotas: map[string]float64{"L-3032A538": 100, "L-36FBB829": 100},
		VPCs:   []VPC{{ID: "vpc-00000001", Default: true}},
		Extra:  map[string]any{},
	}
}

// Serve starts it on loopback.
func (w *World) Serve() (url string, stop func()) {
	w.server = httptest.NewServer(w)
	return w.server.URL, w.server.Close
}

// URL is where it is.
func (w *World) URL() string { return w.server.URL }

// Env is the environment for a program that is to use it and nothing else.
func (w *World) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + w.server.URL, "AWS_REGION=" + Region, "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=example",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// Change changes the state while no request is answered.
func (w *World) Change(how func(*World)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	how(w)
}

// Fail has calls fail from now on.
func (w *World) Fail(f Failure) { w.Change(func(w *World) { w.fails = append(w.fails, &f) }) }

// Heal has no call fail any more, and forgets the hooks.
func (w *World) Heal() { w.Change(func(w *World) { w.fails, w.hooks = nil, nil }) }

// On does something when a call comes that fits a pattern, before it is answered, and once.
func (w *World) On(call string, do func()) {
	w.Change(func(w *World) { w.hooks = append(w.hooks, hook{call, do}) })
}

// Calls are the requests so far.
func (w *World) Calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// Forget forgets the requests so far.
func (w *World) Forget() { w.Change(func(w *World) { w.calls = nil }) }

// Mutations are those of the requests that change something.
func (w *World) Mutations() (names []string) {
	for _, call := range w.Calls() {
		if call.Mutating {
			names = append(names, call.String())
		}
	}
	return names
}

// reading are the verbs with which calls begin that change nothing.
var reading = regexp.MustCompile(`^(Describe|Get|List|BatchGet|BatchCheck|Filter|Tail|Start(Live)?Query$|StartSession$|Validate|Simulate|Lookup|Search|Detect)`)

var scope = regexp.MustCompile(`Credential=([^/]*)/[0-9]+/([^/]*)/([^/]*)/aws4_request`)

// ServeHTTP answers a request.
func (w *World) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	found := scope.FindStringSubmatch(request.Header.Get("Authorization"))
	if err != nil || found == nil {
		http.Error(response, "this is no signed request", http.StatusForbidden)
		return
	}
	call := Call{Region: found[2], Service: found[3], Path: request.URL.Path, Input: map[string]any{}}
	form := read(&call, request, body)
	call.Mutating = !reading.MatchString(call.Action)

	w.mu.Lock()
	var run []func()
	w.hooks = slices.DeleteFunc(w.hooks, func(h hook) bool {
		fits, _ := path.Match(h.call, call.String())
		if fits {
			run = append(run, h.do)
		}
		return fits
	})
	w.mu.Unlock()
	for _, do := range run {
		do()
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
	answer, err := w.answer(call)
	if err == nil {
		form.write(response, call, answer)
		return
	}
	if errors.Is(err, errCut) {
		panic(http.ErrAbortHandler)
	}
	fault := new(Fault)
	if !errors.As(err, &fault) {
		fault = &Fault{500, "InternalFailure", err.Error()}
	}
	form.fail(response, fault)
}

var errCut = errors.New("the connection is cut")

func (w *World) answer(call Call) (any, error) {
	for _, f := range w.fails {
		if fits, _ := path.Match(f.Call, call.String()); !fits {
			continue
		}
		if f.After > 0 {
			f.After--
			continue
		}
		if f.Times < 0 {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				f.Times = -1
			}
		}
		switch f.Kind {
		case "denied":
			return nil, &Fault{403, "AccessDeniedException", "User: arn:aws:iam::" + Account + ":user/somebody is not authorized to perform: " + call.String()}
		case "throttled":
			return nil, &Fault{400, "ThrottlingException", "Rate exceeded"}
		case "expired":
			return nil, &Fault{403, "ExpiredTokenException", "The security token included in the request is expired"}
		case "unknown":
			return nil, &Fault{403, "UnrecognizedClientException", "The security token included in the request is invalid."}
		case "broken":
			return nil, &Fault{500, "InternalFailure", "an internal error"}
		case "cut":
			return nil, errCut
		default:
			return nil, fmt.Errorf("awstest: no kind of failure %q", f.Kind)
		}
	}
	handler, found := handlers[call.Service][call.Action]
	if !found && strings.HasPrefix(call.Action, "Get.") {
		return object{}, nil
	}
	if !found {
		return nil, &Fault{400, "InvalidAction", fmt.Sprintf("awstest does not know %s (%s)", call, call.Path)}
	}
	return handler(w, call)
}
