package spool

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

// TestNewerFormat: where a newer version wrote anything, nothing is touched.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	s := newDamaged(t)
	tried := 0
	for _, f := range valueOf(s.disk.list()) {
		c := s.disk.kill()
		content := valueOf(c.read(f.name))
		end := 22 // of what the heading's checksum is of
		seed := place{}.seed()
		switch _, salt, isSegment := parseSegmentName(f.name); {
		case f.name == reserveName:
			continue
		case f.name == marksName:
			end, seed = marksSize-4, 0
		case isSegment:
			seed = place{salt: salt}.seed()
		}
		tried++
		content[4]++
		binary.LittleEndian.PutUint32(content[end:], crc32.Update(seed, castagnoli, content[:end]))
		c.put(f.name, string(content))
		c.put("marks.tmp", "what a crash has left")
		before, steps := contents(c), c.steps()
		d, err := open(c, smallConfig)
		if err == nil || !strings.Contains(err.Error(), f.name) || !strings.Contains(err.Error(), "format 2") {
			t.Errorf("%s of a newer format: %v, %v", f.name, d, err)
		}
		if c.steps() != steps || contents(c) != before || c.openFiles() != 0 {
			t.Errorf("%s of a newer format: changed, or left open", f.name)
		}
	}
	if tried < 5 {
		t.Errorf("only %d files tried", tried)
	}
}
