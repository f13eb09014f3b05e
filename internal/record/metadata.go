package record

import "persistor/internal/message"

const fewKeys = 32

func appendMetadata(dst []byte, m *message.Message) []byte      { return dst }
func appendTypes(dst []byte, f Format, m *message.Message) []byte { return dst }
func appendValue(dst []byte, v any, depth int) []byte           { return append(dst, "null"...) }
