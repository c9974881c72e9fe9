package assertion

import (
	"testing"
	"time"

	"github.com/serviceradar/poller/internal/check"
)

// usual is an answer of about the usual length.
const usual = `{"host":"192.0.2.17","response_time":62483,"packet_loss":0,"available":true,"service":"","status":"SERVING","checked_at":"2026-03-01T22:00:00Z"}`

// BenchmarkUnmet is what assertions cost that hold, and one that does not.
func BenchmarkUnmet(b *testing.B) {
	for _, bb := range []struct {
		name  string
		texts []string
		holds bool
	}{
		{"one", []string{"data.packet_loss < 20"}, true},
		{"two", []string{"data.packet_loss < 20", "data.status == 'SERVING'"}, true},
		{"whole", []string{"len(data) > 3"}, true},
		{"time", []string{"response_time < 2"}, true},
		{"unmet", []string{"data.packet_loss > 20"}, false},
	} {
		all := assertions(b, bb.texts...)
		b.Run(bb.name, func(b *testing.B) {
			a := answer(usual)
			b.ReportAllocs()
			for b.Loop() {
				if detail := all.Unmet(a); (detail == "") != bb.holds {
					b.Fatal(detail)
				}
			}
		})
	}
}

// BenchmarkNone is what a check without assertions costs, of which nothing is asked.
func BenchmarkNone(b *testing.B) {
	run := check.Run{Check: &check.Check{}}
	a := answer(usual)
	b.ReportAllocs()
	for b.Loop() {
		if detail := run.Unmet(a, time.Second); detail != "" {
			b.Fatal(detail)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile("data.packet_loss < 20"); err != nil {
			b.Fatal(err)
		}
	}
}
