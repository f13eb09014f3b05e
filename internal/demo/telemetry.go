package demo

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"persistor/internal/message"
)

// Telemetry makes the demo's events: what the machines of a few water works might send. An event is a
// function of the fields here and its number alone, so that any of them can be made again. Its methods may be
// called by several goroutines at once.
//
// The events are realistic where it matters to whoever stores them: sizes spread around 1 KiB, most bodies
// JSON, one in twenty binary, one in six with text beyond ASCII, a few empty or full of control
// characters. A gateway sends what one machine collected, 40 readings in a row, under the machine's name as
// partition key; one such upload in ten has none. Sixteen events in a row carry application properties of
// every scalar type that the AMQP client can send, at the ends of their ranges as well.
type Telemetry struct {
	Seed uint64
	// Machines, unless 0, has so many machines send one reading each in turn, all under their names.
	Machines int
}

const (
	upload   = 40 // readings in a row from one machine
	machines = 40 // at each site; together they are the partition keys
)

// epoch is when the first event was measured: a fixed time, so that events can be made again.
var epoch = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// numberProperty carries an event's own number.
const numberProperty = "event"

// Number reads an event's own number, and says false where there is none.
func Number(m *message.Message) (int, bool) {
	n, ok := m.Properties[numberProperty].(int64)
	return int(n), ok
}

// Event makes event n, from 0.
func (t Telemetry) Event(n int) *message.Message {
	random := rand.New(rand.NewPCG(t.Seed, uint64(n)))
	site, machine, keyed := t.sender(n)

	id := fmt.Sprintf("%016x-%07d", t.Seed, n)
	contentType, body := t.body(n, random, site, machine)
	m := &message.Message{
		Body:        message.Body{Data: [][]byte{body}},
		ID:          id,
		ContentType: &contentType,
		Properties: map[string]any{
			numberProperty: int64(n),
			"site":         site.name,
		},
	}
	if keyed {
		m.PartitionKey = &machine
	}
	m.CorrelationID = correlation(n, random)
	for _, p := range scalars[n%len(scalars)] {
		m.Properties[p.name] = p.value(random)
	}
	return m
}

// sender is where event n comes from, and whether under the machine's name.
func (t Telemetry) sender(n int) (at site, machine string, keyed bool) {
	if t.Machines > 0 {
		k := n % t.Machines
		at = sites[k%len(sites)]
		return at, at.machine(k / len(sites)), true
	}
	// What is the same for a whole upload is drawn from the upload's number.
	batch := rand.New(rand.NewPCG(t.Seed, ^uint64(n/upload)))
	at = sites[batch.IntN(len(sites))]
	return at, at.machine(batch.IntN(machines)), batch.IntN(10) > 0
}

// body draws one body and its content type.
func (t Telemetry) body(n int, random *rand.Rand, site site, machine string) (contentType string, body []byte) {
	switch kind := random.IntN(1000); {
	case kind < 50:
		return "application/octet-stream", waveform(random)
	case kind < 100:
		return "text/plain; charset=utf-8", []byte(logLines(random, site, machine))
	case kind < 102:
		return "text/plain; charset=utf-8", nil
	case kind < 105:
		return "text/plain; charset=utf-8", []byte("\ufeff\"quoted\" \\ \x00\x1b[31mred\x1b[0m\r\n\n\n\tend\u2028\u2029\n\n")
	default:
		return "application/json", readings(n, random, site, machine)
	}
}

// reading is one machine's state. A struct keeps the fields' order, which a map would not.
type reading struct {
	Machine    string    `json:"machine"`
	Site       string    `json:"site"`
	MeasuredAt time.Time `json:"measured_at"`
	State      string    `json:"state"`
	Sensors    []sensor  `json:"sensors"`
	Note       string    `json:"note,omitempty"`
}

type sensor struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	OK    bool    `json:"ok"`
}

// readings is a JSON body of some 250 B to 8 KiB, half of them below 1 KiB.
func readings(n int, random *rand.Rand, site site, machine string) []byte {
	r := reading{
		Machine:    machine,
		Site:       site.name,
		MeasuredAt: epoch.Add(time.Duration(n) * 7 * time.Millisecond),
		State:      states[random.IntN(len(states))],
	}
	count := int(13 * math.Exp(0.5*random.NormFloat64()))
	for range min(max(count, 2), 110) {
		s := sensors[random.IntN(len(sensors))]
		s.Value = math.Round(1000*s.Value*(0.8+0.4*random.Float64())) / 1000
		s.OK = random.IntN(50) > 0
		r.Sensors = append(r.Sensors, s)
	}
	if random.IntN(6) == 0 {
		r.Note = site.remarks[random.IntN(len(site.remarks))]
	}
	body, err := json.Marshal(r)
	if err != nil {
		panic("demo: " + err.Error()) // every value above is finite
	}
	return body
}

// waveform is a binary body: vibration samples, 256 B to 2 KiB.
func waveform(random *rand.Rand) []byte {
	samples := make([]byte, 256+random.IntN(1793))
	for i := range samples {
		samples[i] = byte(128 + 100*math.Sin(float64(i)/9) + 20*random.NormFloat64())
	}
	return samples
}

// logLines is a plain text body of one to twelve lines.
func logLines(random *rand.Rand, site site, machine string) string {
	var b strings.Builder
	for range 1 + random.IntN(12) {
		fmt.Fprintf(&b, "%s %s: %s\n", machine, states[random.IntN(len(states))], site.remarks[random.IntN(len(site.remarks))])
	}
	return b.String()
}

// correlation goes through the four types that a correlation id may have; half the events have none.
func correlation(n int, random *rand.Rand) any {
	switch n % 8 {
	case 1:
		return fmt.Sprintf("shift-%d", n/1000)
	case 3:
		return random.Uint64()
	case 5:
		return uuid(random)
	case 7:
		return binary(random, 12)
	}
	return nil
}

// property draws values of one AMQP type.
type property struct {
	name  string
	value func(*rand.Rand) any
}

// scalars are the types in turn: event n carries those of row n modulo the number of rows.
var scalars = [16][]property{
	0:  {{"calibrated", func(r *rand.Rand) any { return r.IntN(2) == 0 }}},
	1:  {{"offset_c", func(r *rand.Rand) any { return pick(r, math.MinInt8, int8(r.IntN(256)-128), math.MaxInt8) }}},
	2:  {{"trim", func(r *rand.Rand) any { return pick(r, math.MinInt16, int16(r.IntN(1<<16)-1<<15), math.MaxInt16) }}},
	3:  {{"steps", func(r *rand.Rand) any { return pick(r, math.MinInt32, int32(r.Uint32()), math.MaxInt32) }}},
	4:  {{"uptime_ns", func(r *rand.Rand) any { return pick(r, math.MinInt64, int64(r.Uint64()), math.MaxInt64) }}},
	5:  {{"priority", func(r *rand.Rand) any { return pick(r, 0, uint8(r.Uint32()), math.MaxUint8) }}},
	6:  {{"port", func(r *rand.Rand) any { return pick(r, 0, uint16(r.Uint32()), math.MaxUint16) }}},
	7:  {{"firmware", func(r *rand.Rand) any { return pick(r, 0, r.Uint32(), math.MaxUint32) }}},
	8:  {{"serial", func(r *rand.Rand) any { return pick(r, 0, r.Uint64(), math.MaxUint64) }}},
	9:  {{"load", func(r *rand.Rand) any { return pick(r, float32(math.Inf(-1)), r.Float32(), math.MaxFloat32) }}},
	10: {{"flow", func(r *rand.Rand) any { return pick(r, math.NaN(), r.NormFloat64(), math.SmallestNonzeroFloat64) }}},
	11: {{"operator", func(r *rand.Rand) any { return pick(r, "", operators[r.IntN(len(operators))], "a\tb\"c\\d\x01") }}},
	12: {{"signature", func(r *rand.Rand) any { return binary(r, r.IntN(33)) }}},
	13: {{"serviced_at", func(r *rand.Rand) any { return epoch.Add(-time.Duration(r.Int64N(1e12)) * time.Millisecond) }}},
	14: {{"trace", func(r *rand.Rand) any { return uuid(r) }}},
	15: {{"alarm", func(*rand.Rand) any { return nil }}, {"überprüft", func(r *rand.Rand) any { return int32(r.IntN(1000)) }}},
}

// pick gives the middle value mostly, and one of the outer two, the ends of its range, one time in ten.
func pick[T any](random *rand.Rand, low, middle, high T) any {
	switch random.IntN(20) {
	case 0:
		return low
	case 1:
		return high
	}
	return middle
}

func uuid(random *rand.Rand) (id message.UUID) {
	copy(id[:], binary(random, len(id)))
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4
	return id
}

func binary(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

type site struct {
	code, name string
	remarks    []string
}

func (s site) machine(n int) string { return fmt.Sprintf("%s/pump-%03d", s.code, n) }

var (
	sites = []site{
		{"zgb", "Zagreb, Mala Mlaka", []string{"Pritisak raste, češće provjeriti žuti šaht.", "Pump swapped on the night shift."}},
		{"vie", "Wien, Wasserbehälter Moosbrunn", []string{"Prüfung abgeschlossen, Ölstand in Ordnung.", "Filter gereinigt."}},
		{"sof", "София, Бистрица", []string{"Налягането е в норма след смяната на клапана.", "Проверка на дебита: изпълнена."}},
		{"kyo", "京都市 蹴上浄水場", []string{"ポンプ二号機の振動を確認しました。", "水温は正常範囲内です。"}},
		{"sel", "서울 암사정수센터", []string{"밸브 점검을 마쳤습니다.", "유량이 회복되었습니다."}},
		{"lis", "Lisboa, Asseiceira", []string{"Pressão estável; manutenção concluída. ✅", "Leak reported near valve 7 🚰💧 — crew sent 👷‍♀️."}},
	}
	states    = []string{"running", "running", "running", "idle", "starting", "stopping", "fault"}
	operators = []string{"ana", "Đurđica", "Николай", "美咲", "소연", "João 🌊"}
	sensors   = []sensor{
		{Name: "inlet_pressure", Value: 3.2, Unit: "bar"},
		{Name: "outlet_pressure", Value: 6.8, Unit: "bar"},
		{Name: "flow", Value: 412, Unit: "m³/h"},
		{Name: "bearing_temperature", Value: 61.5, Unit: "°C"},
		{Name: "vibration_rms", Value: 2.1, Unit: "mm/s"},
		{Name: "motor_current", Value: 87.4, Unit: "A"},
		{Name: "turbidity", Value: 0.31, Unit: "NTU"},
		{Name: "chlorine", Value: 0.45, Unit: "mg/l"},
	}
)
