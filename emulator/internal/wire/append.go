package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// AppendNull appends null.
func AppendNull(dst []byte) []byte { return append(dst, codeNull) }

// AppendBool appends a boolean.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, codeTrue)
	}
	return append(dst, codeFalse)
}

// AppendUint appends a uint in its shortest form.
func AppendUint(dst []byte, v uint32) []byte {
	switch {
	case v == 0:
		return append(dst, codeUint0)
	case v <= math.MaxUint8:
		return append(dst, codeSmallUint, byte(v))
	}
	return binary.BigEndian.AppendUint32(append(dst, codeUint), v)
}

// AppendUlong appends a ulong in its shortest form.
func AppendUlong(dst []byte, v uint64) []byte {
	switch {
	case v == 0:
		return append(dst, codeUlong0)
	case v <= math.MaxUint8:
		return append(dst, codeSmallUlong, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, codeUlong), v)
}

// AppendLong appends a long of eight bytes.
func AppendLong(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, codeLong), uint64(v))
}

// AppendTimestamp appends a timestamp in milliseconds since the Unix epoch.
func AppendTimestamp(dst []byte, ms int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, codeTimestamp), uint64(ms))
}

// AppendString appends a string.
func AppendString(dst []byte, s string) []byte {
	return append(appendSize(dst, codeStr8, codeStr32, len(s)), s...)
}

// AppendSymbol appends a symbol.
func AppendSymbol(dst []byte, s string) []byte {
	return append(appendSize(dst, codeSym8, codeSym32, len(s)), s...)
}

// AppendBinary appends a binary value.
func AppendBinary(dst, b []byte) []byte {
	return append(appendSize(dst, codeBin8, codeBin32, len(b)), b...)
}

func appendSize(dst []byte, short, long byte, n int) []byte {
	if n <= math.MaxUint8 {
		return append(dst, short, byte(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, long), uint32(n))
}

// AppendUUID appends a UUID.
func AppendUUID(dst []byte, id UUID) []byte { return append(append(dst, codeUUID), id[:]...) }

// AppendDescriptor appends the beginning of a described value: what it describes comes next.
func AppendDescriptor(dst []byte, code byte) []byte {
	return append(dst, codeDescribed, codeSmallUlong, code)
}

// AppendRaw appends an encoded value, null for nil.
func AppendRaw(dst, raw []byte) []byte {
	if raw == nil {
		return AppendNull(dst)
	}
	return append(dst, raw...)
}

// AppendList appends a list of count items that items appends.
func AppendList(dst []byte, count int, items func([]byte) []byte) []byte {
	return appendCompound(dst, codeList32, count, items)
}

// AppendMap appends a map of count pairs that pairs appends, a key and a value in turn.
func AppendMap(dst []byte, count int, pairs func([]byte) []byte) []byte {
	return appendCompound(dst, codeMap32, 2*count, pairs)
}

func appendCompound(dst []byte, code byte, count int, items func([]byte) []byte) []byte {
	dst = append(dst, code, 0, 0, 0, 0)
	start := len(dst)
	dst = items(binary.BigEndian.AppendUint32(dst, uint32(count)))
	binary.BigEndian.PutUint32(dst[start-4:], uint32(len(dst)-start))
	return dst
}

// AppendStrings appends an array of strings. It is an array even when it is empty: clients that want an array of
// strings do not take a list.
func AppendStrings(dst []byte, ss []string) []byte {
	return appendCompound(dst, codeArray32, len(ss), func(dst []byte) []byte {
		dst = append(dst, codeStr32)
		for _, s := range ss {
			dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
		}
		return dst
	})
}

// AppendSymbols appends an array of symbols.
func AppendSymbols(dst []byte, ss []string) []byte {
	return appendCompound(dst, codeArray32, len(ss), func(dst []byte) []byte {
		dst = append(dst, codeSym32)
		for _, s := range ss {
			dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
		}
		return dst
	})
}

// appendArray appends an array of count values of eight or more fixed bytes that items appends without constructors.
func appendArray(dst []byte, constructor byte, count int, items func([]byte) []byte) []byte {
	return appendCompound(dst, codeArray32, count, func(dst []byte) []byte { return items(append(dst, constructor)) })
}

// AppendAny appends a value of one of the Go types listed at [Symbol], except [Array]; slices of strings, int64,
// [Timestamp] and [UUID] become arrays. It panics on any other type: what it is given is written in the program, or
// was read from a peer and found [Simple].
func AppendAny(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return AppendNull(dst)
	case bool:
		return AppendBool(dst, v)
	case uint8:
		return append(dst, codeUbyte, v)
	case uint16:
		return binary.BigEndian.AppendUint16(append(dst, codeUshort), v)
	case uint32:
		return AppendUint(dst, v)
	case uint64:
		return AppendUlong(dst, v)
	case int8:
		return append(dst, codeByte, byte(v))
	case int16:
		return binary.BigEndian.AppendUint16(append(dst, codeShort), uint16(v))
	case int32:
		return binary.BigEndian.AppendUint32(append(dst, codeInt), uint32(v))
	case int64:
		return AppendLong(dst, v)
	case float32:
		return binary.BigEndian.AppendUint32(append(dst, codeFloat), math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, codeDouble), math.Float64bits(v))
	case Char:
		return binary.BigEndian.AppendUint32(append(dst, codeChar), uint32(v))
	case Timestamp:
		return AppendTimestamp(dst, int64(v))
	case UUID:
		return AppendUUID(dst, v)
	case Decimal:
		code := map[int]byte{4: codeDecimal32, 8: codeDecimal64, 16: codeDecimal128}[len(v)]
		return append(append(dst, code), v...)
	case []byte:
		return AppendBinary(dst, v)
	case string:
		return AppendString(dst, v)
	case Symbol:
		return AppendSymbol(dst, string(v))
	case []string:
		return AppendStrings(dst, v)
	case []int64:
		return appendArray(dst, codeLong, len(v), func(dst []byte) []byte {
			for _, n := range v {
				dst = binary.BigEndian.AppendUint64(dst, uint64(n))
			}
			return dst
		})
	case []Timestamp:
		return appendArray(dst, codeTimestamp, len(v), func(dst []byte) []byte {
			for _, ms := range v {
				dst = binary.BigEndian.AppendUint64(dst, uint64(ms))
			}
			return dst
		})
	case []UUID:
		return appendArray(dst, codeUUID, len(v), func(dst []byte) []byte {
			for _, id := range v {
				dst = append(dst, id[:]...)
			}
			return dst
		})
	case []any:
		return AppendList(dst, len(v), func(dst []byte) []byte {
			for _, item := range v {
				dst = AppendAny(dst, item)
			}
			return dst
		})
	case Map:
		return AppendMap(dst, len(v), func(dst []byte) []byte {
			for _, p := range v {
				dst = AppendAny(AppendAny(dst, p.Key), p.Value)
			}
			return dst
		})
	case Described:
		return AppendAny(AppendAny(append(dst, codeDescribed), v.Descriptor), v.Value)
	}
	panic(fmt.Sprintf("wire: no AMQP encoding of %T", v))
}

// AppendStringBytes appends a string that is there as bytes.
func AppendStringBytes(dst, s []byte) []byte {
	return append(appendSize(dst, codeStr8, codeStr32, len(s)), s...)
}
