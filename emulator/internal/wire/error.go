package wire

// Conditions that the standard defines, parts 2.8.15 to 2.8.18.
const (
	ConditionInternalError         = "amqp:internal-error"
	ConditionNotFound              = "amqp:not-found"
	ConditionUnauthorizedAccess    = "amqp:unauthorized-access"
	ConditionDecodeError           = "amqp:decode-error"
	ConditionResourceLimitExceeded = "amqp:resource-limit-exceeded"
	ConditionNotAllowed            = "amqp:not-allowed"
	ConditionInvalidField          = "amqp:invalid-field"
	ConditionNotImplemented        = "amqp:not-implemented"
	ConditionConnectionForced      = "amqp:connection:forced"
	ConditionFramingError          = "amqp:connection:framing-error"
	ConditionWindowViolation       = "amqp:session:window-violation"
	ConditionHandleInUse           = "amqp:session:handle-in-use"
	ConditionUnattachedHandle      = "amqp:session:unattached-handle"
	ConditionDetachForced          = "amqp:link:detach-forced"
	ConditionTransferLimitExceeded = "amqp:link:transfer-limit-exceeded"
	ConditionMessageSizeExceeded   = "amqp:link:message-size-exceeded"
	ConditionStolen                = "amqp:link:stolen"
)

// Error is an AMQP error: why a link was detached, a session ended, a connection closed or a message rejected.
type Error struct {
	Condition   string
	Description string
	Info        Map // optional
}

func (e *Error) Error() string { return e.Condition + ": " + e.Description }

func (e *Error) appendTo(dst []byte) []byte {
	if e == nil {
		return AppendNull(dst)
	}
	return AppendList(AppendDescriptor(dst, descError), 3, func(dst []byte) []byte {
		dst = AppendSymbol(dst, e.Condition)
		dst = AppendString(dst, e.Description)
		if e.Info == nil {
			return AppendNull(dst)
		}
		return AppendAny(dst, e.Info)
	})
}

// error reads an error, nil for null.
func (r *Reader) error() *Error {
	code, _, value, ok := r.Described()
	if !ok {
		return nil
	}
	if code != descError {
		r.fail("an error is expected, got descriptor 0x%02x", code)
		return nil
	}
	fields := value.List()
	e := &Error{Condition: fields.String(), Description: fields.String()}
	e.Info, _ = fields.Any().(Map)
	r.adopt(value)
	r.adopt(fields)
	return e
}
