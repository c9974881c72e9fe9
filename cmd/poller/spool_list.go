package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
	"github.com/serviceradar/poller/internal/wire"
)

func spoolListCommand(where *spoolFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls {-c FILE | --dir DIR} [--aside]",
		Short: "List what is kept, and sum it up",
		Long: "Lists what is kept in the order in which core gets it, then what was set aside or is damaged, and sums it\n" +
			"up. The kinds: kept waits for core; again was set aside, and is tried again before all others; aside is\n" +
			"what core refused for good, with the reason; damaged is what can't be read any more. After a kill that may\n" +
			"also be the last write, which was not finished: then nothing is lost, and the next start removes it.",
		Args: noArgs,
	}
	aside := cmd.Flags().Bool("aside", false, "list only what was set aside or is damaged")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		place, err := where.find(cmd)
		if err != nil {
			return err
		}
		out := bufio.NewWriter(cmd.OutOrStdout())
		l := &listing{out: out, onlyAside: *aside, width: 28}
		if err := spool.Look(place.dir, l.take); err != nil {
			return errors.Join(out.Flush(), err)
		}
		return errors.Join(l.end(), out.Flush())
	}
	return cmd
}

// listing prints entries as they come, and sums them up.
type listing struct {
	out       io.Writer
	onlyAside bool
	width     int // of the ids up to now
	rows      int
	sum       spoolSum
}

func (l *listing) take(e spool.Entry) error {
	l.sum.add(&e)
	if l.onlyAside && !isAside(e.Kind) {
		return nil
	}
	if l.rows == 0 {
		if err := l.row("ID", "KIND", "TIME", "BYTES", "STATUSES", "REASON"); err != nil {
			return err
		}
	}
	l.rows++
	statuses := "-"
	if n, err := wire.CountStatuses(e.Body); err == nil && e.Kind != spool.Unreadable {
		statuses = strconv.Itoa(n)
	}
	return l.row(observe.Visible(e.ID), string(e.Kind), timeText(e.At), strconv.FormatInt(e.Bytes, 10), statuses, observe.Visible(e.Reason))
}

func (l *listing) row(id, kind, at, bytes, statuses, reason string) error {
	l.width = max(l.width, utf8.RuneCountInString(id))
	row := fmt.Sprintf("%-*s  %-7s  %-20s  %10s  %8s  %s", l.width, id, kind, at, bytes, statuses, reason)
	_, err := fmt.Fprintln(l.out, strings.TrimRight(row, " "))
	return err
}

func (l *listing) end() error {
	if l.rows > 0 {
		if _, err := fmt.Fprintln(l.out); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(l.out, l.sum.String())
	return err
}

// isAside tells what was set aside, or is damaged, from what is in the queue.
func isAside(k spool.EntryKind) bool { return k == spool.Aside || k == spool.Unreadable }

// spoolSum sums entries up.
type spoolSum struct {
	kept, again    int // again are among the kept
	bytes          int64
	oldest, newest time.Time
	aside, damaged int
}

func (s *spoolSum) add(e *spool.Entry) {
	switch e.Kind {
	case spool.Aside:
		s.aside++
		return
	case spool.Unreadable:
		s.damaged++
		return
	case spool.Again:
		s.again++
	case spool.Kept:
	}
	if s.kept == 0 || e.At.Before(s.oldest) {
		s.oldest = e.At
	}
	if e.At.After(s.newest) {
		s.newest = e.At
	}
	s.kept++
	s.bytes += e.Bytes
}

// queued is what is said of the queue.
func (s *spoolSum) queued() string {
	if s.kept == 0 {
		return "0 reports kept for core"
	}
	return fmt.Sprintf("%s kept for core: %s, from %s to %s", count(s.kept, "report"), count(int(s.bytes), "byte"), timeText(s.oldest), timeText(s.newest))
}

func (s *spoolSum) String() string {
	text := s.queued()
	if s.again > 0 {
		text += fmt.Sprintf("; %d of them to be tried again", s.again)
	}
	return fmt.Sprintf("%s; %d set aside; %d damaged", text, s.aside, s.damaged)
}
