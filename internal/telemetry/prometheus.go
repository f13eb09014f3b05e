package telemetry

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// prometheus writes metrics in the text format of Prometheus
// (https://prometheus.io/docs/instrumenting/exposition_formats/), with names as the OpenTelemetry specification makes them
// (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/).
type prometheus struct{ reader *sdkmetric.ManualReader }

func (p prometheus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var all metricdata.ResourceMetrics
	if err := p.reader.Collect(r.Context(), &all); err != nil {
		http.Error(w, "collect metrics: "+err.Error(), http.StatusInternalServerError)
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# HELP target_info What the program says of itself.\n# TYPE target_info gauge\ntarget_info%s 1\n", labels(all.Resource.Attributes()))
	for _, scope := range all.ScopeMetrics {
		for _, metric := range scope.Metrics {
			writeMetric(&b, metric)
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // a caller that has gone is no concern of ours
}

func writeMetric(b *bytes.Buffer, m metricdata.Metrics) {
	name := familyOf(m)
	head := func(kind string) {
		fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, escaped(m.Description, false), name, kind)
	}
	switch data := m.Data.(type) {
	case metricdata.Gauge[int64]:
		head("gauge")
		writeNumbers(b, name, data.DataPoints)
	case metricdata.Gauge[float64]:
		head("gauge")
		writeNumbers(b, name, data.DataPoints)
	case metricdata.Sum[int64]:
		head("counter")
		writeNumbers(b, name, data.DataPoints)
	case metricdata.Histogram[float64]:
		head("histogram")
		writeHistogram(b, name, data)
	}
}

// familyOf is the name of a metric with its unit, and with _total where it only grows.
func familyOf(m metricdata.Metrics) string {
	name := strings.ReplaceAll(m.Name, ".", "_")
	switch m.Unit {
	case "s":
		name += "_seconds"
	case "By":
		name = strings.TrimSuffix(name, "_bytes") + "_bytes"
	}
	if _, sum := m.Data.(metricdata.Sum[int64]); sum {
		name += "_total"
	}
	return name
}

func writeNumbers[N int64 | float64](b *bytes.Buffer, name string, points []metricdata.DataPoint[N]) {
	for _, p := range points {
		fmt.Fprintf(b, "%s%s %s\n", name, labels(p.Attributes.ToSlice()), number(float64(p.Value)))
	}
}

func writeHistogram(b *bytes.Buffer, name string, h metricdata.Histogram[float64]) {
	for _, p := range h.DataPoints {
		attributes, below := p.Attributes.ToSlice(), uint64(0)
		for i, n := range p.BucketCounts {
			bound := "+Inf"
			if i < len(p.Bounds) {
				bound = number(p.Bounds[i])
			}
			below += n
			fmt.Fprintf(b, "%s_bucket%s %d\n", name, labels(attributes, attribute.String("le", bound)), below)
		}
		fmt.Fprintf(b, "%s_sum%s %s\n%s_count%s %d\n", name, labels(attributes), number(p.Sum), name, labels(attributes), p.Count)
	}
}

// labels writes attributes as labels; nothing when there are none.
func labels(all []attribute.KeyValue, more ...attribute.KeyValue) string {
	var pairs []string
	for _, a := range append(all[:len(all):len(all)], more...) {
		name := strings.Map(func(r rune) rune {
			if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
				return r
			}
			return '_'
		}, string(a.Key))
		if name[0] >= '0' && name[0] <= '9' {
			name = "_" + name
		}
		pairs = append(pairs, name+`="`+escaped(a.Value.String(), true)+`"`)
	}
	if len(pairs) == 0 {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// escaped is a text as the format has it, with quotes escaped in a label's value.
func escaped(s string, quotes bool) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "\n", `\n`)
	if quotes {
		s = strings.ReplaceAll(s, `"`, `\"`)
	}
	return s
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
