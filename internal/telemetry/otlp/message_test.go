package otlp

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	collectormetrics "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

var about = &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", "s")}}

// What is written is read by the official definitions as what it was.
func TestSpans(t *testing.T) {
	state, _ := trace.ParseTraceState("a=b")
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 15: 2}, SpanID: trace.SpanID{3, 7: 4}, TraceFlags: 1, TraceState: state, Remote: true})
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder), sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "s"))))
	began := time.Unix(1_700_000_000, 123)
	_, span := provider.Tracer("lib").Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), "name", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(began),
		trace.WithAttributes(attribute.Bool("yes", true), attribute.Bool("no", false), attribute.Int64("less", -1), attribute.Int64("zero", 0), attribute.Float64("half", 0.5),
			attribute.String("empty", ""), attribute.StringSlice("list", []string{"a", "b"})))
	span.AddEvent("happened", trace.WithTimestamp(began), trace.WithAttributes(attribute.String("k", "v")))
	span.SetStatus(codes.Error, "oh")
	span.End(trace.WithTimestamp(began.Add(time.Second)))
	var got collectortrace.ExportTraceServiceRequest
	if err := proto.Unmarshal(encodeSpans(recorder.Ended()), &got); err != nil {
		t.Fatal(err)
	}
	value := func(key string, v *commonpb.AnyValue) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: key, Value: v}
	}
	traceID, parentID, id := parent.TraceID(), parent.SpanID(), span.SpanContext().SpanID()
	want := &collectortrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{Resource: about, ScopeSpans: []*tracepb.ScopeSpans{{
		Scope: &commonpb.InstrumentationScope{Name: "lib"},
		Spans: []*tracepb.Span{{
			TraceId: traceID[:], SpanId: id[:], ParentSpanId: parentID[:], TraceState: "a=b", Flags: 1 | 3<<8, Name: "name", Kind: tracepb.Span_SPAN_KIND_CLIENT,
			StartTimeUnixNano: uint64(began.UnixNano()), EndTimeUnixNano: uint64(began.Add(time.Second).UnixNano()),
			Attributes: []*commonpb.KeyValue{
				value("yes", &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: true}}),
				value("no", &commonpb.AnyValue{Value: &commonpb.AnyValue_BoolValue{BoolValue: false}}),
				value("less", &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: -1}}),
				value("zero", &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: 0}}),
				value("half", &commonpb.AnyValue{Value: &commonpb.AnyValue_DoubleValue{DoubleValue: 0.5}}),
				text("empty", ""),
				value("list", &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: &commonpb.ArrayValue{Values: []*commonpb.AnyValue{
					text("", "a").Value, text("", "b").Value}}}}),
			},
			Events: []*tracepb.Span_Event{{TimeUnixNano: uint64(began.UnixNano()), Name: "happened", Attributes: []*commonpb.KeyValue{text("k", "v")}}},
			Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "oh"},
		}},
	}}}}}
	if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(resource.NewSchemaless(attribute.String("service.name", "s"))))
	m := provider.Meter("lib")
	counter, _ := m.Int64Counter("counter", metric.WithUnit("{thing}"), metric.WithDescription("Things."))
	gauge, _ := m.Float64Gauge("gauge")
	whole, _ := m.Int64Gauge("whole")
	histogram, _ := m.Float64Histogram("histogram", metric.WithExplicitBucketBoundaries(1, 2))
	ctx, of := context.Background(), metric.WithAttributes(attribute.String("k", "v"))
	counter.Add(ctx, 7, of)
	gauge.Record(ctx, -0.5)
	whole.Record(ctx, 0)
	for _, v := range []float64{0.5, 1.5, 1.5, 9} {
		histogram.Record(ctx, v, of)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		t.Fatal(err)
	}
	var got collectormetrics.ExportMetricsServiceRequest
	if err := proto.Unmarshal(encodeMetrics(&all), &got); err != nil {
		t.Fatal(err)
	}
	cumulative := metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	labels := []*commonpb.KeyValue{text("k", "v")}
	want := &collectormetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{{Resource: about, ScopeMetrics: []*metricspb.ScopeMetrics{{
		Scope: &commonpb.InstrumentationScope{Name: "lib"},
		Metrics: []*metricspb.Metric{
			{Name: "counter", Description: "Things.", Unit: "{thing}", Data: &metricspb.Metric_Sum{Sum: &metricspb.Sum{AggregationTemporality: cumulative, IsMonotonic: true,
				DataPoints: []*metricspb.NumberDataPoint{{Attributes: labels, Value: &metricspb.NumberDataPoint_AsInt{AsInt: 7}}}}}},
			{Name: "gauge", Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: []*metricspb.NumberDataPoint{{Value: &metricspb.NumberDataPoint_AsDouble{AsDouble: -0.5}}}}}},
			{Name: "whole", Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: []*metricspb.NumberDataPoint{{Value: &metricspb.NumberDataPoint_AsInt{AsInt: 0}}}}}},
			{Name: "histogram", Data: &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{AggregationTemporality: cumulative, DataPoints: []*metricspb.HistogramDataPoint{{
				Attributes: labels, Count: 4, Sum: proto.Float64(12.5), Min: proto.Float64(0.5), Max: proto.Float64(9), BucketCounts: []uint64{1, 2, 1}, ExplicitBounds: []float64{1, 2},
			}}}}},
		},
	}}}}}
	times := protocmp.IgnoreFields(&metricspb.NumberDataPoint{}, "start_time_unix_nano", "time_unix_nano")
	histogramTimes := protocmp.IgnoreFields(&metricspb.HistogramDataPoint{}, "start_time_unix_nano", "time_unix_nano")
	if diff := cmp.Diff(want, &got, protocmp.Transform(), times, histogramTimes); diff != "" {
		t.Error(diff)
	}
	at := got.ResourceMetrics[0].ScopeMetrics[0].Metrics[0].GetSum().DataPoints[0].TimeUnixNano
	if math.Abs(time.Since(time.Unix(0, int64(at))).Seconds()) > 60 {
		t.Errorf("of %d", at)
	}
}
