package observe

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Histograms are native ones, with buckets that are 9 % wider each, at most so many; if there would be more, they
// become coarser. Beside them are a few classic buckets, for whoever scrapes text.
const (
	bucketFactor = 1.1
	maxBuckets   = 100
)

// family makes the families of our own metrics, and registers them.
type family struct{ *prometheus.Registry }

func (f family) counter(name, help string) prometheus.Counter {
	return register(f, prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help}))
}

// counters have a label with some values, whose series begin with 0.
func (f family) counters(name, help, label string, values ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label})
	for _, value := range values {
		v.WithLabelValues(value)
	}
	return register(f, v)
}

func (f family) gauge(name, help string) prometheus.Gauge {
	return register(f, prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help, Unit: unit(name)}))
}

func (f family) histogram(name, help string, buckets ...float64) prometheus.Histogram {
	return register(f, prometheus.NewHistogram(histogramOpts(name, help, buckets)))
}

func (f family) histograms(name, help, label string, buckets ...float64) *prometheus.HistogramVec {
	return register(f, prometheus.NewHistogramVec(histogramOpts(name, help, buckets), []string{label}))
}

func histogramOpts(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: prefix + name, Help: help, Unit: unit(name), Buckets: buckets,
		NativeHistogramBucketFactor: bucketFactor, NativeHistogramMaxBucketNumber: maxBuckets,
	}
}

// computed adds a gauge whose values read tells at each scrape.
func (f family) computed(name, help string, labels []string, read func(set setter)) {
	register(f, &computed{desc: newDesc(prefix+name, help, labels...), kind: prometheus.GaugeValue, read: read})
}

// counted is computed for a counter that somebody else counts.
func (f family) counted(name, help string, labels []string, read func(set setter)) {
	register(f, &computed{desc: newDesc(prefix+name, help, labels...), kind: prometheus.CounterValue, read: read})
}

func register[C prometheus.Collector](f family, c C) C {
	f.MustRegister(c)
	return c
}

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.V2.NewDesc(name, help, prometheus.UnconstrainedLabels(labels), nil, prometheus.WithUnit(unit(name)))
}

// unit is the unit in a name, as Prometheus' conventions have it there; empty if it has none.
func unit(name string) string {
	for _, u := range []string{"seconds", "bytes"} {
		if strings.HasSuffix(name, "_"+u) {
			return u
		}
	}
	return ""
}

// setter takes a value and the values of the labels that it goes with.
type setter func(value float64, labels ...string)

// computed is a family of gauges or counters that are asked for at each scrape.
type computed struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(set setter)
}

// Describe is for the registry.
func (c *computed) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect is for the registry.
func (c *computed) Collect(ch chan<- prometheus.Metric) {
	c.read(func(value float64, labels ...string) {
		m, err := prometheus.NewConstMetric(c.desc, c.kind, value, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(c.desc, err)
		}
		ch <- m
	})
}
