package config

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Telemetry is where traces and metrics go; its zero value is nowhere. The settings are those of the OpenTelemetry
// specification (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
// .../protocol/exporter/), as far as they concern traces and metrics sent as OTLP over HTTP.
type Telemetry struct {
	// Traces and Metrics are the URLs that OTLP requests are POSTed to; "" for none.
	Traces, Metrics string
	// Headers go with each request, in the form name=value,name=value with values escaped as in URLs; see
	// [Telemetry.Header].
	Headers Secret
	// Timeout bounds one export, its retries included.
	Timeout time.Duration
	Gzip    bool
	// Interval lies between two exports of metrics.
	Interval time.Duration

	// Service names the program in all it sends, and Attributes say more of it, in the order given.
	Service    string
	Attributes []Attribute
	Sampler    Sampler

	// Scrape says whether GET /metrics answers, and to whom.
	Scrape Scrape
}

// Attribute is one of what a program says of itself.
type Attribute struct{ Name, Value string }

// Sampler decides which traces are recorded.
type Sampler struct {
	// Parent has it follow whoever began the trace, and decide only for traces that begin here.
	Parent bool
	Share  float64 // of the traces that are recorded, from 0 to 1
}

// Scrape is who may read GET /metrics.
type Scrape int

const (
	ScrapeOff  Scrape = iota
	ScrapeKey         // whoever has the key
	ScrapeOpen        // everybody
)

// Header are the headers that go with each request, by name.
func (t Telemetry) Header() map[string]string {
	headers, _ := parsePairs(t.Headers.Reveal(), validHeader)
	all := make(map[string]string, len(headers))
	for _, h := range headers {
		all[h.Name] = h.Value
	}
	return all
}

// On reports whether anything is sent, or kept to be asked for.
func (t Telemetry) On() bool { return t.Traces != "" || t.Metrics != "" || t.Scrape != ScrapeOff }

const (
	otlpSetting    = "OTEL_EXPORTER_OTLP_ENDPOINT"
	metricsSetting = "METRICS"
)

// exports is what the settings say before it is known where traces and metrics go.
type exports struct {
	disabled                bool
	endpoint                string
	traces, metrics         string
	sendTraces, sendMetrics bool
	byRatio                 bool
	ratio                   float64
}

// settings read what the programs have in common. They are documented as a group of their own.
func (t *Telemetry) settings(e *exports) []setting {
	var protocol string
	return group(telemetryGroup, []setting{
		{name: otlpSetting, value: endpoint(&e.endpoint), otherwise: "nothing is sent", meaning: "Where traces and metrics are sent, as OTLP over HTTP: below it, at `v1/traces` and `v1/metrics`. With this, or one of the next two, telemetry is on."},
		{name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value: endpoint(&e.traces), otherwise: "`v1/traces` below `" + otlpSetting + "`", meaning: "The URL that traces go to, as it is."},
		{name: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", value: endpoint(&e.metrics), otherwise: "`v1/metrics` below `" + otlpSetting + "`", meaning: "The URL that metrics go to, as it is."},
		{name: "OTEL_EXPORTER_OTLP_HEADERS", value: headers(&t.Headers), secret: true, otherwise: "none", meaning: "Headers of each request, such as a key."},
		{name: "OTEL_EXPORTER_OTLP_PROTOCOL", value: choice(&protocol, []string{"http/protobuf"}, ""), fallback: "http/protobuf", meaning: "How they are sent. gRPC is not spoken; a collector's port for HTTP is 4318 by default."},
		{name: "OTEL_EXPORTER_OTLP_COMPRESSION", value: choice(&t.Gzip, []string{"none", "gzip"}, false, true), fallback: "none", meaning: "Whether requests are compressed."},
		{name: "OTEL_EXPORTER_OTLP_TIMEOUT", value: milliseconds(&t.Timeout, 100*time.Millisecond, time.Minute), fallback: "10000", meaning: "How long one export may take, with its retries."},
		{name: "OTEL_METRIC_EXPORT_INTERVAL", value: milliseconds(&t.Interval, time.Second, time.Hour), fallback: "60000", meaning: "Time between two exports of metrics. What a unit of work has counted is sent at its end besides."},
		{name: "OTEL_TRACES_EXPORTER", value: choice(&e.sendTraces, []string{"otlp", "none"}, true, false), fallback: "otlp", meaning: "`none` sends no traces."},
		{name: "OTEL_METRICS_EXPORTER", value: choice(&e.sendMetrics, []string{"otlp", "none"}, true, false), fallback: "otlp", meaning: "`none` sends no metrics."},
		{name: "OTEL_TRACES_SAMPLER", value: sampler(&t.Sampler, &e.byRatio), fallback: "parentbased_always_on", meaning: "Which traces are recorded. The Functions host's own calls mostly say that nobody records their trace, so `always_on` is what shows anything there."},
		{name: "OTEL_TRACES_SAMPLER_ARG", value: share(&e.ratio), fallback: "1", meaning: "The share of traces that are recorded, where the sampler goes by a ratio."},
		{name: "OTEL_SERVICE_NAME", value: text(&t.Service, "a name"), otherwise: "`persistor-` and the program's name", meaning: "What the program is called in traces and metrics (`service.name`)."},
		{name: "OTEL_RESOURCE_ATTRIBUTES", value: attributes(&t.Attributes), otherwise: "none", meaning: "More that is said of the program in traces and metrics, such as `deployment.environment.name=production`."},
		{name: "OTEL_SDK_DISABLED", value: boolean(&e.disabled), fallback: "FALSE", meaning: "`TRUE` sends nothing, whatever the others say."},
		{name: metricsSetting, value: choice(&t.Scrape, []string{"FALSE", "TRUE", "open"}, ScrapeOff, ScrapeKey, ScrapeOpen), fallback: "FALSE", meaning: "Whether `GET /metrics` answers with the metrics, as Prometheus reads them. With `TRUE` it asks for `" + keySetting + "` where that is set, as all else does; with `open` for nothing. Not under the Functions host, where nothing could reach it."},
	})
}

// checkTelemetry settles where traces and metrics go.
func (r *reader) checkTelemetry(t *Telemetry, e exports, program string, hosted bool) {
	if t.Service == "" {
		t.Service = "persistor-" + program
	}
	if hosted && t.Scrape != ScrapeOff {
		t.Scrape = ScrapeOff
		r.warn("%s is ignored under the Functions host: nobody could ask for them there; send them, by %s", metricsSetting, otlpSetting)
	}
	if e.byRatio {
		t.Sampler.Share = e.ratio
	}
	for _, signal := range []struct {
		into      *string
		own, path string
		on        bool
	}{{&t.Traces, e.traces, "v1/traces", e.sendTraces}, {&t.Metrics, e.metrics, "v1/metrics", e.sendMetrics}} {
		switch {
		case e.disabled || !signal.on:
		case signal.own != "":
			*signal.into = signal.own
		case e.endpoint != "":
			*signal.into = strings.TrimSuffix(e.endpoint, "/") + "/" + signal.path
		}
	}
	for _, to := range []string{t.Traces, t.Metrics} {
		if u, err := url.Parse(to); t.Headers != "" && err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
			r.warn("telemetry goes to an http URL on another host (%s): OTEL_EXPORTER_OTLP_HEADERS go there in clear", to)
			break
		}
	}
	if !t.On() {
		*t = Telemetry{}
	}
}

// endpoint takes the URL of a collector. It is shown in errors and logs, so no secret may be in it.
func endpoint(into *string) value {
	return value{"a URL such as http://localhost:4318, without a query", func(text string) error {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "":
			return errors.New("is not a URL of a collector: expected http:// or https://, a host, and a port such as 4318")
		case u.User != nil || u.RawQuery != "":
			return errors.New("has a password or a query in it: keys go into OTEL_EXPORTER_OTLP_HEADERS")
		}
		*into = text
		return nil
	}}
}

// maxPairs bounds how many headers or attributes there may be.
const maxPairs = 64

func headers(into *Secret) value {
	return value{"NAME=VALUE, or several separated by commas, with values escaped as in URLs", func(text string) error {
		if _, ok := parsePairs(text, validHeader); !ok {
			return errMismatch
		}
		*into = Secret(text)
		return nil
	}}
}

func attributes(into *[]Attribute) value {
	return value{"NAME=VALUE, or several separated by commas, with values escaped as in URLs", func(text string) error {
		all, ok := parsePairs(text, func(name, _ string) bool { return len(name) <= 255 })
		if !ok {
			return errMismatch
		}
		*into = all
		return nil
	}}
}

// parsePairs reads a list as W3C baggage has it (https://www.w3.org/TR/baggage/), without properties.
func parsePairs(text string, valid func(name, value string) bool) (all []Attribute, ok bool) {
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, escaped, found := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(escaped))
		if !found || name == "" || err != nil || len(all) == maxPairs || !valid(name, value) {
			return nil, false
		}
		all = append(all, Attribute{name, value})
	}
	return all, true
}

// validHeader reports whether a header may be sent as it is: a token (RFC 9110, 5.6.2), and no line break in the value.
func validHeader(name, value string) bool {
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r) }
	return !strings.ContainsFunc(name, odd) && !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// sampler takes the names of the OpenTelemetry specification, but for those that need a service to decide.
func sampler(into *Sampler, byRatio *bool) value {
	words := []string{"always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"}
	var at int
	named := choice(&at, words, 0, 1, 2, 3, 4, 5)
	return value{named.expected, func(text string) error {
		if err := named.parse(text); err != nil {
			return err
		}
		*into, *byRatio = Sampler{Parent: at >= 3}, at%3 == 2
		if at%3 == 0 {
			into.Share = 1
		}
		return nil
	}}
}

func share(into *float64) value {
	return value{"a number from 0 to 1", func(text string) error {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n <= 1) {
			return errMismatch
		}
		*into = n
		return nil
	}}
}

// milliseconds takes a number of them, as the OpenTelemetry settings have times.
func milliseconds(into *time.Duration, lowest, highest time.Duration) value {
	var n int
	number := whole(&n, int(lowest.Milliseconds()), int(highest.Milliseconds()))
	return value{"milliseconds, " + number.expected, func(text string) error {
		if err := number.parse(text); err != nil {
			return err
		}
		*into = time.Duration(n) * time.Millisecond
		return nil
	}}
}

// group has settings documented in a section of their own.
func group(name string, settings []setting) []setting {
	settings = slices.Clone(settings)
	for i := range settings {
		settings[i].group = name
	}
	return settings
}

const telemetryGroup = "Telemetry"
