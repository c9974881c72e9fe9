package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// aliveTimeout is how long the health check waits for an answer from inside.
const aliveTimeout = time.Second

// lastRequests is how long requests in flight may take when the server stops.
const lastRequests = 500 * time.Millisecond

// Admin is the HTTP server for those who run the poller: /healthz tells whether it lives,
// /readyz whether it can be relied on, and why not; /metrics is for Prometheus; /debug/pprof/ shows those on the same
// machine what the process is at.
type Admin struct {
	server   *http.Server
	listener net.Listener
	served   chan struct{} // closed when Serve has ended
	err      error         // why it ended, unless by Stop
}

// ListenAdmin listens on address; Serve answers.
func ListenAdmin(ctx context.Context, address string) (*Admin, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin.listen = %q: %w: does another poller run here? choose another address, or \"\" for none", address, err)
	}
	return &Admin{
		server:   &http.Server{ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute},
		listener: listener,
		served:   make(chan struct{}),
	}, nil
}

// Serve answers from now on, in the background, until Stop. Alive returns nil if the poller lives. What is local is only for
// requests from this machine, by patterns as of http.ServeMux.
func (a *Admin) Serve(alive func(context.Context) error, board *Board, metrics *Metrics, local map[string]http.HandlerFunc) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { healthz(w, r, alive) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { readyz(w, board) })
	mux.Handle("GET /metrics", metrics.Handler())
	profiles(mux)
	for pattern, handler := range local {
		mux.HandleFunc(pattern, fromHere(handler))
	}
	a.server.Handler = mux
	go func() {
		defer close(a.served)
		if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.err = err
		}
	}()
}

// Address returns where the server listens.
func (a *Admin) Address() string { return a.listener.Addr().String() }

// Stop lets requests in flight end for a moment, and then ends everything. It may be called again.
func (a *Admin) Stop(ctx context.Context) error {
	if a.server.Handler == nil { // it never served
		return a.listener.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, lastRequests)
	defer cancel()
	var err error
	if a.server.Shutdown(ctx) != nil { // somebody keeps a connection open
		err = a.server.Close()
	}
	<-a.served
	return errors.Join(err, a.err)
}

func healthz(w http.ResponseWriter, r *http.Request, alive func(context.Context) error) {
	ctx, cancel := context.WithTimeout(r.Context(), aliveTimeout)
	defer cancel()
	if err := alive(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok") // a client that left is none of our business
}

func readyz(w http.ResponseWriter, board *Board) {
	ready, conditions := board.Read(time.Now())
	w.Header().Set("Content-Type", "application/json")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(struct { // as above
		Ready      bool        `json:"ready"`
		Conditions []Condition `json:"conditions"`
	}{ready, conditions})
}
