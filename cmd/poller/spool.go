package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/config"
	"github.com/serviceradar/poller/internal/daemon"
	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
)

func spoolCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Look at what a stopped poller keeps for core, and change it",
		Long: "Shows and changes what a poller keeps on disk: reports that core has not taken yet, reports that core\n" +
			"refused for good, which were set aside, and what is damaged. The poller has to be stopped. The directory\n" +
			"is that of the configuration of -c, or that of --dir.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	var where spoolFlags
	cmd.PersistentFlags().StringVarP(&where.config, "config", "c", "", "configuration file (TOML) of the poller")
	cmd.PersistentFlags().StringVar(&where.dir, "dir", "", "directory of the spool, or the state directory that it is in, instead of -c")
	cmd.AddCommand(spoolListCommand(&where), spoolShowCommand(&where), spoolExportCommand(&where),
		spoolRetryCommand(&where), spoolDropCommand(&where))
	return cmd
}

// spoolFlags say which spool is meant.
type spoolFlags struct{ config, dir string }

// spoolPlace is a directory with a spool in it, and the bounds to open it with.
type spoolPlace struct {
	dir    string
	bounds spool.Config
}

func (f *spoolFlags) find(cmd *cobra.Command) (spoolPlace, error) {
	switch {
	case f.config == "" && f.dir == "":
		return spoolPlace{}, errors.New("which spool? give the configuration of the poller with -c FILE, or the directory with --dir DIR")
	case f.config != "" && f.dir != "":
		return spoolPlace{}, errors.New("give the configuration with -c or the directory with --dir, not both")
	case f.dir != "":
		dir, err := spoolIn(f.dir, daemon.SpoolDirectory(f.dir))
		return spoolPlace{dir, spool.Config{MaxBytes: math.MaxInt64, MaxAge: math.MaxInt64}}, err
	}
	loaded, err := loadConfig(cmd)
	if err != nil {
		return spoolPlace{}, err
	}
	cfg := loaded.Config
	printWarnings(cmd, loaded.Warnings)
	stateDir, err := daemon.StateDir(cfg)
	if err != nil {
		return spoolPlace{}, err
	}
	if stateDir == "" {
		return spoolPlace{}, errors.New(`state_dir is "memory": nothing is kept on disk`)
	}
	dir, err := spoolIn(daemon.SpoolDirectory(stateDir))
	if err != nil && cfg.StateDir == config.StateAuto {
		err = fmt.Errorf(`%w; with state_dir = "auto" that depends on the environment of the poller, which may be another one: try --dir DIR`, err)
	}
	return spoolPlace{dir, spool.Config{MaxBytes: cfg.Spool.MaxBytes, MaxAge: cfg.Spool.MaxAge}}, err
}

// spoolIn returns the first of these directories that has a spool in it.
func spoolIn(dirs ...string) (string, error) {
	for _, dir := range dirs {
		switch found, err := spool.Found(dir); {
		case found:
			return dir, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	return "", fmt.Errorf("there is no spool in %s: no poller has kept anything there, or it is not mounted now", dirs[0])
}

// open opens the spool to change it. What it tells goes to stderr.
func (p spoolPlace) open(cmd *cobra.Command) (*spool.Disk, error) {
	p.bounds.Tell = func(e spool.Event) { cmd.PrintErrln(observe.Visible(spoolEvent(e))) }
	return spool.Open(p.dir, p.bounds)
}

// spoolEvent is an event in words.
func spoolEvent(event spool.Event) string {
	switch e := event.(type) {
	case spool.Damaged:
		if e.Err != nil {
			return fmt.Sprintf("damaged: %s; it could not be set aside: %v", e.Reason, e.Err)
		}
		return fmt.Sprintf("damaged: %s (%s)", e.Reason, e.File)
	case spool.Unfinished:
		return fmt.Sprintf("the last write to %s was not finished when the poller or the machine stopped, and is removed: %s; nothing that was taken is lost by that",
			e.File, count(e.Bytes, "byte"))
	case spool.Lost:
		return fmt.Sprintf("%s lost: %s", count(e.Reports, "report"), e.Cause)
	case spool.AsideDropped:
		return fmt.Sprintf("dropped %s, set aside %s: it is older than spool.max_age, or there is more than a tenth of spool.max_bytes",
			e.ID, timeText(e.Since))
	case spool.PositionUnsafe:
		if e.Err != nil {
			return fmt.Sprintf("the read position can't be saved, and core would get again what it has: %v", e.Err)
		}
		return "the read position is saved again"
	case spool.Unsafe:
		return fmt.Sprintf("the spool can't be written: %v", e.Err)
	case spool.SafeAgain:
		return "the spool is written again"
	}
	return fmt.Sprintf("%T", event)
}

// say tells what was done.
func say(cmd *cobra.Command, text string) {
	_, _ = fmt.Fprintln(cmd.OutOrStdout(), observe.Visible(text)) // done it is all the same
}

// complain tells what is wrong with one of several things; the others go on.
func complain(cmd *cobra.Command, id string, err error) {
	cmd.PrintErrln(observe.Visible(fmt.Sprintf("%s: %v", id, err)))
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
