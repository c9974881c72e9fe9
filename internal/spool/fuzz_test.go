package spool

import (
	"bytes"
	"testing"
	"time"
)

// FuzzScan: whatever is in a file, reading it ends, each byte belongs to one record or one damage, and a record that
// was read is written again as it was.
func FuzzScan(f *testing.F) {
	var b []byte
	for _, r := range []*record{
		{kind: kindState, state: map[string]string{"a": "1", "b": ""}},
		{kind: kindReport, number: 1, id: "p/1/1", at: start, body: []byte("body")},
		{kind: kindReport, number: 2, id: "p/1/2", at: start, state: map[string]string{"a": "2"}, body: bytes.Clone(magic)},
		{kind: kindAside, id: "p/1/3", at: start, since: start.Add(time.Hour), reason: "no", body: []byte{}},
	} {
		b = r.appendTo(b, 7, 0)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(append([]byte("x"), b...))
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, content []byte) {
		records, damages, err := scan("f", 7, content)
		if err != nil {
			return // of a newer version
		}
		var end int64
		for len(records)+len(damages) > 0 {
			if len(damages) > 0 && damages[0].offset == end {
				if len(damages[0].bytes) == 0 || damages[0].reason == "" {
					t.Fatalf("damage of nothing, or for no reason: %+v", damages[0])
				}
				end += int64(len(damages[0].bytes))
				damages = damages[1:]
				continue
			}
			if len(records) == 0 {
				t.Fatalf("nothing ends or begins at byte %d", end)
			}
			again := records[0].appendTo(nil, 7, end)
			if rest := content[end:]; !bytes.HasPrefix(rest, again) {
				t.Fatalf("the record at byte %d, %+v, is not what is written for it", end, records[0])
			}
			if int64(len(again)) != records[0].size() {
				t.Fatalf("size is %d, and it takes %d", records[0].size(), len(again))
			}
			end += int64(len(again))
			records = records[1:]
		}
		if end != int64(len(content)) {
			t.Fatalf("read to byte %d of %d", end, len(content))
		}
	})
}
