package otlp

import (
	"encoding/binary"
	"math"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/protobuf/encoding/protowire"
)

// encodeMetrics writes metrics_service.proto: ExportMetricsServiceRequest.
func encodeMetrics(all *metricdata.ResourceMetrics) (request message) {
	var resource message // metrics.proto: ResourceMetrics
	resource.message(1, encodeResource(all.Resource))
	for _, scope := range all.ScopeMetrics {
		var m message // metrics.proto: ScopeMetrics
		m.message(1, encodeScope(scope.Scope))
		for _, metric := range scope.Metrics {
			m.message(2, encodeMetric(metric))
		}
		resource.message(2, m)
	}
	request.message(1, resource)
	return request
}

// encodeMetric writes metrics.proto: Metric, with the aggregations that the SDK makes unless a view says otherwise.
func encodeMetric(metric metricdata.Metrics) (m message) {
	m.text(1, metric.Name)
	m.text(2, metric.Description)
	m.text(3, metric.Unit)
	switch data := metric.Data.(type) {
	case metricdata.Gauge[int64]:
		m.message(5, encodeNumbers(data.DataPoints))
	case metricdata.Gauge[float64]:
		m.message(5, encodeNumbers(data.DataPoints))
	case metricdata.Sum[int64]:
		m.message(7, append(encodeNumbers(data.DataPoints), encodeSum(data.Temporality, data.IsMonotonic)...))
	case metricdata.Sum[float64]:
		m.message(7, append(encodeNumbers(data.DataPoints), encodeSum(data.Temporality, data.IsMonotonic)...))
	case metricdata.Histogram[float64]:
		m.message(9, encodeHistogram(data))
	}
	return m
}

// encodeNumbers writes the field data_points of Gauge and Sum: NumberDataPoint.
func encodeNumbers[N int64 | float64](points []metricdata.DataPoint[N]) (all message) {
	for _, p := range points {
		var m message
		m.time(2, p.StartTime)
		m.time(3, p.Time)
		switch value := any(p.Value).(type) {
		case float64:
			m.double(4, value)
		case int64:
			m.fixed64(6, uint64(value))
		}
		m.attributes(7, p.Attributes.ToSlice())
		all.message(1, m)
	}
	return all
}

// encodeSum writes the other fields of Sum.
func encodeSum(temporality metricdata.Temporality, monotonic bool) (m message) {
	m.varint(2, encodeTemporality(temporality))
	m.flag(3, monotonic)
	return m
}

// encodeTemporality gives the number that OTLP has for it.
func encodeTemporality(t metricdata.Temporality) uint64 {
	if t == metricdata.DeltaTemporality {
		return 1
	}
	return 2
}

// encodeHistogram writes metrics.proto: Histogram, with its HistogramDataPoints.
func encodeHistogram(h metricdata.Histogram[float64]) (all message) {
	for _, p := range h.DataPoints {
		var m message
		m.time(2, p.StartTime)
		m.time(3, p.Time)
		m.fixed64(4, p.Count)
		m.double(5, p.Sum)
		m.packed(6, p.BucketCounts)
		bounds := make([]uint64, len(p.Bounds))
		for i, bound := range p.Bounds {
			bounds[i] = math.Float64bits(bound)
		}
		m.packed(7, bounds)
		m.attributes(9, p.Attributes.ToSlice())
		if least, ok := p.Min.Value(); ok {
			m.double(11, least)
		}
		if most, ok := p.Max.Value(); ok {
			m.double(12, most)
		}
		all.message(1, m)
	}
	all.varint(2, encodeTemporality(h.Temporality))
	return all
}

// packed writes numbers of 64 bits each in one field.
func (m *message) packed(field protowire.Number, numbers []uint64) {
	var all []byte
	for _, n := range numbers {
		all = binary.LittleEndian.AppendUint64(all, n)
	}
	m.bytes(field, all)
}
