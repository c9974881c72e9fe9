package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/serviceradar/poller/internal/observe"
	"github.com/serviceradar/poller/internal/spool"
)

func spoolRetryCommand(where *spoolFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry {-c FILE | --dir DIR} {ID... | --all}",
		Short: "Put reports that were set aside back into the queue, before all others",
		Long: "Puts reports that were set aside back into the queue, in the order in which they were set aside: at the\n" +
			"next start core gets them with their old time, before all others. What core refuses again is set aside again.",
	}
	all := cmd.Flags().Bool("all", false, "all that was set aside")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *all == (len(args) > 0) {
			return errors.New("what shall be tried again? give ids, of those that poller spool ls --aside lists, or --all")
		}
		place, err := where.find(cmd)
		if err != nil {
			return err
		}
		pick := pickIDs(args)
		pick.aside = *all
		entries, _, err := pick.look(place.dir)
		if err != nil {
			return err
		}
		missing := pick.complainOfMissing(cmd)
		if err := place.retry(cmd, entries, *all); err != nil {
			return err
		}
		return missing
	}
	return cmd
}

// retry puts entries back into the queue. Of all, those that are damaged are left.
func (p spoolPlace) retry(cmd *cobra.Command, entries []spool.Entry, all bool) error {
	can, skipped := retriable(cmd, entries, all)
	var failed error
	if skipped > 0 && !all {
		failed = errReported
	}
	done := 0
	if len(can) > 0 {
		disk, err := p.open(cmd)
		if err != nil {
			return err
		}
		for _, e := range can {
			if err := disk.Retry(e.ID); err != nil {
				complain(cmd, e.ID, err)
				failed = errReported
				continue
			}
			done++
			say(cmd, fmt.Sprintf("%s of %s is in the queue again; it was set aside %s: %s", e.ID, timeText(e.At), timeText(e.Since), e.Reason))
			if time.Since(e.At) > p.bounds.MaxAge {
				cmd.PrintErrln(observe.Visible(fmt.Sprintf("warning: %s is older than spool.max_age, and may be dropped before core has it: let the poller start with a longer one", e.ID)))
			}
		}
		if err := disk.Close(); err != nil {
			return err
		}
	}
	if done > 0 {
		say(cmd, "at the next start of the poller core gets "+count(done, "report")+" before all others, with the old time")
	} else if all {
		say(cmd, "nothing was set aside")
	}
	return failed
}

// retriable returns the entries that can be tried again, and says why others can't.
func retriable(cmd *cobra.Command, entries []spool.Entry, all bool) (can []spool.Entry, skipped int) {
	aside := make(map[string]bool)
	for _, e := range entries {
		aside[e.ID] = aside[e.ID] || e.Kind == spool.Aside
	}
	for _, e := range entries {
		switch {
		case e.Kind == spool.Aside:
			can = append(can, e)
		case aside[e.ID]: // and in the queue as well
		case e.Kind == spool.Unreadable && all:
			skipped++
			cmd.PrintErrln(observe.Visible(e.ID + " is damaged, and stays"))
		case e.Kind == spool.Unreadable:
			skipped++
			complain(cmd, e.ID, errors.New("it is damaged, and can't be sent to core; poller spool show shows what is left of it"))
		default:
			skipped++
			complain(cmd, e.ID, errors.New("it was not set aside: it is in the queue, and core gets it in any case"))
		}
	}
	return can, skipped
}

func spoolDropCommand(where *spoolFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop {-c FILE | --dir DIR} {ID... | --aside | --kept}",
		Short: "Remove reports, or what was set aside, for good",
		Long: "Removes what has these ids, all that was set aside or is damaged, or all reports kept for core, for good.\n" +
			"Where results stand stays: what is dropped with them is not asked for again. Export it before.",
	}
	aside := cmd.Flags().Bool("aside", false, "all that was set aside or is damaged")
	kept := cmd.Flags().Bool("kept", false, "all reports kept for core")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given := 0
		for _, is := range []bool{len(args) > 0, *aside, *kept} {
			if is {
				given++
			}
		}
		if given != 1 {
			return errors.New("what shall be dropped? give ids, of those that poller spool ls lists, or --aside or --kept")
		}
		place, err := where.find(cmd)
		if err != nil {
			return err
		}
		pick := pickIDs(args)
		pick.aside = *aside
		entries, sum, err := pick.look(place.dir)
		if err != nil {
			return err
		}
		if *kept {
			return place.dropKept(cmd, &sum)
		}
		missing := pick.complainOfMissing(cmd)
		if err := place.drop(cmd, entries); err != nil {
			return err
		}
		return missing
	}
	return cmd
}

func (p spoolPlace) dropKept(cmd *cobra.Command, sum *spoolSum) error {
	if sum.kept > 0 {
		disk, err := p.open(cmd)
		if err != nil {
			return err
		}
		_, err = disk.DropKept()
		if err := errors.Join(err, disk.Close()); err != nil {
			return err
		}
	}
	say(cmd, "dropped "+sum.queued())
	return nil
}

// drop removes entries.
func (p spoolPlace) drop(cmd *cobra.Command, entries []spool.Entry) error {
	var failed error
	var dropped spoolSum
	if len(entries) > 0 {
		disk, err := p.open(cmd)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := disk.Drop(e.ID); err != nil {
				complain(cmd, e.ID, err)
				failed = errReported
				continue
			}
			dropped.add(&e)
			say(cmd, fmt.Sprintf("dropped %s: %s, %s, of %s", e.ID, kindText(e.Kind), count(int(e.Bytes), "byte"), timeText(e.At)))
		}
		if err := disk.Close(); err != nil {
			return err
		}
	}
	say(cmd, fmt.Sprintf("dropped in all: %s kept for core, %d set aside, %d damaged", count(dropped.kept, "report"), dropped.aside, dropped.damaged))
	return failed
}

func kindText(k spool.EntryKind) string {
	switch k {
	case spool.Kept:
		return "kept for core"
	case spool.Again:
		return "to be tried again"
	case spool.Aside:
		return "set aside"
	case spool.Unreadable:
		return "damaged"
	}
	return string(k)
}
