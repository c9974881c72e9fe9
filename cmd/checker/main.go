// Command checker serves the built-in checks, over the same contract as any plugin, runs one of them, and tests whether plugins
// keep to the contract.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGPIPE) // or the end of whoever reads the log would be ours
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// From then on signals do again what they do by themselves: the second one ends the process.
	context.AfterFunc(ctx, stop)
	if err := command().ExecuteContext(ctx); err != nil {
		_, said := errors.AsType[exit](err)
		if !said && !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "checker:", err)
		}
		os.Exit(exitCode(err))
	}
}

// errReported is an error that has been printed already.
var errReported = errors.New("see above")

// exit is an exit code, where all has been said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitCode returns the exit code for an error of a command.
func exitCode(err error) int {
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	if _, ok := errors.AsType[notConnectedError](err); ok {
		return 2
	}
	return 1
}
