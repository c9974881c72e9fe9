package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/probe"
	"github.com/serviceradar/poller/internal/sim"
	"github.com/serviceradar/poller/sdk"
)

// The checker that misbehaves is good for a while, then hangs for a while, and so on.
const (
	flakyGood = 4 * time.Second
	flakyBad  = 6 * time.Second
)

//go:embed demo.toml
var sample string

// addresses are what sample is filled in with, State a directory.
type addresses struct{ Core, Web, Page, Ports, Flaky, State string }

// demo runs everything until ctx ends, and returns an error if not every status arrived.
func demo(ctx context.Context, out *os.File) (err error) {
	s := &scene{tally: newTally()}
	defer func() { err = errors.Join(err, s.stop()) }()
	at, err := s.start(context.WithoutCancel(ctx)) // all of it outlives the poller
	if err != nil {
		return err
	}
	cfg, err := configuration(at)
	if err != nil {
		return err
	}
	live := isatty.IsTerminal(out.Fd())
	tail := &tail{out: out, keep: live}
	log, flush, err := observe.NewLogger(tail, cfg.Log.Level, "console")
	if err != nil {
		return err
	}
	defer flush()
	d := daemon.New(daemon.Options{Config: cfg, Log: log, Observe: s.tally.observe})
	if err := d.Start(ctx); err != nil {
		return err
	}
	s.watch(ctx, out, tail, live)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownTimeout)
	defer cancel()
	if err := d.Stop(stopping); err != nil {
		return err
	}
	return s.tally.verdict(out, s.core.Violations())
}

func configuration(at addresses) (*config.Config, error) {
	var text strings.Builder
	if err := template.Must(template.New("demo.toml").Parse(sample)).Execute(&text, at); err != nil {
		return nil, err
	}
	cfg, _, err := config.Parse("demo.toml", []byte(text.String()), config.Source{})
	return cfg, err
}

// home has what is printed next take the place of all before.
const home = "\x1b[H\x1b[2J"

// scene is everything around the poller.
type scene struct {
	tally *tally
	core  sim.Core
	stops []func() error // in order of starting
}

func (s *scene) start(ctx context.Context) (at addresses, err error) {
	s.core.OnDelivery = s.tally.delivered
	l, err := listen(ctx)
	if err != nil {
		return at, err
	}
	core := s.core.Serve(l, nil)
	s.stops = append(s.stops, func() error { core.Stop(); return nil })

	if l, err = listen(ctx); err != nil {
		return at, err
	}
	flaky := sim.NewChecker(sim.Flapping(flakyGood, flakyBad, sim.HangAll())).Serve(l, nil)
	s.stops = append(s.stops, func() error { flaky.Stop(); return nil })

	state, err := os.MkdirTemp("", "poller-demo-")
	if err != nil {
		return at, err
	}
	s.stops = append(s.stops, func() error { return os.RemoveAll(state) })

	at = addresses{Core: core.Addr(), Flaky: flaky.Addr(), State: state}
	if at.Page, err = s.page(ctx); err != nil {
		return at, err
	}
	if at.Web, err = s.checker(ctx, "http", probe.HTTP); err != nil {
		return at, err
	}
	at.Ports, err = s.checker(ctx, "port", probe.Port)
	return at, err
}

func listen(ctx context.Context) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
}

// checker serves one real check, as cmd/checker does, and returns its address.
func (s *scene) checker(ctx context.Context, kind string, p probe.Func) (string, error) {
	l, err := listen(ctx)
	if err != nil {
		return "", err
	}
	check := sdk.Func(kind, func(ctx context.Context, r sdk.Request) (sdk.Answer, error) {
		result, err := p(ctx, probe.Target{Details: r.Details, Port: r.Port})
		return sdk.Answer{Available: result.Available, Message: result.Message, ResponseTime: result.ResponseTime}, err
	})
	quiet := sdk.Logger(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- sdk.ServeListener(ctx, l, []sdk.Check{check}, quiet) }()
	s.stops = append(s.stops, func() error { cancel(); return <-served })
	return l.Addr().String(), nil
}

// page serves something for the http check to look at.
func (s *scene) page(ctx context.Context) (string, error) {
	l, err := listen(ctx)
	if err != nil {
		return "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "all is well") })
	mux.HandleFunc("GET /broken", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "broken on purpose", http.StatusInternalServerError)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	s.stops = append(s.stops, func() error {
		err := server.Close()
		if end := <-served; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	})
	return l.Addr().String(), nil
}

func (s *scene) stop() error {
	var err error
	for _, stop := range slices.Backward(s.stops) {
		err = errors.Join(err, stop())
	}
	return err
}

// watch shows the table every second until ctx ends; on something that is no terminal only once
// in a while.
func (s *scene) watch(ctx context.Context, out *os.File, log *tail, live bool) {
	began, every := time.Now(), 5*time.Second
	if live {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if live {
			_, _ = fmt.Fprint(out, home)
		}
		_, _ = fmt.Fprintf(out, "\nafter %v, as core has it:\n%s\n%s", time.Since(began).Round(time.Second), s.tally.table(), log.lines())
	}
}
