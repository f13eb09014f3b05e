// Package wire encodes and decodes AMQP 1.0: frames, performatives, messages and the values they are made of, as the
// OASIS standard of 2012 defines them and as the clients of Event Hubs and Service Bus use it. It holds no state of a
// connection and does no input or output but the reading of a frame.
//
// What is read is not trusted: nothing is allocated by a size that the bytes at hand do not bear out, values nest at
// most 32 deep, and every failure is an [*Error] with the condition that the standard gives for it.
package wire

// Constructors, part 1.6 of the standard.
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeSmallUint  = 0x52
	codeSmallUlong = 0x53
	codeSmallInt   = 0x54
	codeSmallLong  = 0x55
	codeBool       = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeDecimal32  = 0x74
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeDecimal64  = 0x84
	codeDecimal128 = 0x94
	codeUUID       = 0x98
	codeBin8       = 0xa0
	codeStr8       = 0xa1
	codeSym8       = 0xa3
	codeBin32      = 0xb0
	codeStr32      = 0xb1
	codeSym32      = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)

// How wide the content of a value is.
const (
	widthNone  = 0 // there is no such constructor
	widthSize1 = 1 // a size of one byte goes before it
	widthSize4 = 2 // a size of four bytes goes before it
	widthFixed = 3 // widthFixed+n is n bytes
)

var widths = [256]byte{
	codeNull: widthFixed, codeTrue: widthFixed, codeFalse: widthFixed,
	codeUint0: widthFixed, codeUlong0: widthFixed, codeList0: widthFixed,
	codeUbyte: widthFixed + 1, codeByte: widthFixed + 1, codeSmallUint: widthFixed + 1, codeSmallUlong: widthFixed + 1,
	codeSmallInt: widthFixed + 1, codeSmallLong: widthFixed + 1, codeBool: widthFixed + 1,
	codeUshort: widthFixed + 2, codeShort: widthFixed + 2,
	codeUint: widthFixed + 4, codeInt: widthFixed + 4, codeFloat: widthFixed + 4, codeChar: widthFixed + 4,
	codeDecimal32: widthFixed + 4,
	codeUlong:     widthFixed + 8, codeLong: widthFixed + 8, codeDouble: widthFixed + 8, codeTimestamp: widthFixed + 8,
	codeDecimal64:  widthFixed + 8,
	codeDecimal128: widthFixed + 16, codeUUID: widthFixed + 16,
	codeBin8: widthSize1, codeStr8: widthSize1, codeSym8: widthSize1,
	codeBin32: widthSize4, codeStr32: widthSize4, codeSym32: widthSize4,
	codeList8: widthSize1, codeMap8: widthSize1, codeArray8: widthSize1,
	codeList32: widthSize4, codeMap32: widthSize4, codeArray32: widthSize4,
}

// Descriptors of performatives, termini, outcomes, message sections and SASL frames.
const (
	descOpen        = 0x10
	descBegin       = 0x11
	descAttach      = 0x12
	descFlow        = 0x13
	descTransfer    = 0x14
	descDisposition = 0x15
	descDetach      = 0x16
	descEnd         = 0x17
	descClose       = 0x18
	descError       = 0x1d
	descReceived    = 0x23
	descAccepted    = 0x24
	descRejected    = 0x25
	descReleased    = 0x26
	descModified    = 0x27
	descSource      = 0x28
	descTarget      = 0x29
	descCoordinator = 0x30
	descMechanisms  = 0x40
	descInit        = 0x41
	descOutcome     = 0x44
)

// SectionX is the descriptor of a message section, part 3.2 of the standard.
const (
	SectionHeader                = 0x70
	SectionDeliveryAnnotations   = 0x71
	SectionMessageAnnotations    = 0x72
	SectionProperties            = 0x73
	SectionApplicationProperties = 0x74
	SectionData                  = 0x75
	SectionSequence              = 0x76
	SectionValue                 = 0x77
	SectionFooter                = 0x78
)
