package record

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"persistor/internal/message"
)

// The floor is encoding/json on the body alone, in the same run.
func BenchmarkAppend(b *testing.B) {
	for name, body := range map[string]string{
		"plain":    strings.Repeat("The quick brown fox jumps over. ", 32),
		"json":     strings.Repeat(`{"id":12345,"name":"sensor-17"} `, 32),
		"cyrillic": strings.Repeat("быстрая лиса ", 43)[:1024],
	} {
		m := message.Message{Body: data(body)}
		full := ordinary(1024)
		full.Body = m.Body
		var dst []byte
		for sub, run := range map[string]func(){
			"body":     func() { dst = Format{}.Append(dst[:0], &m) },
			"metadata": func() { dst = Format{Metadata: true}.Append(dst[:0], &full) },
			"floor":    func() { _, _ = json.Marshal(body) },
		} {
			b.Run(name+"/"+sub, func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					run()
				}
			})
		}
	}
}

func BenchmarkReader(b *testing.B) {
	m := ordinary(1100)
	content := bytes.Repeat(Format{Metadata: true}.Append(nil, &m), 1000)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		r := NewReader(bytes.NewReader(content), 1<<20)
		for {
			if _, err := r.Next(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}
