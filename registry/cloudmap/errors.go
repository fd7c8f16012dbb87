package cloudmap

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// Error is an error of the API. On the wire it is
// {"__type": Type, "Message": Message, ...Members}.
type Error struct {
	Type    string
	Message string
	Status  int // of HTTP
	Members map[string]string
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// MarshalJSON gives the body of the answer.
func (e *Error) MarshalJSON() ([]byte, error) {
	m := map[string]string{}
	maps.Copy(m, e.Members)
	m["__type"], m["Message"] = e.Type, e.Message
	return json.Marshal(m)
}

// Code is the type in the form of an operation's ErrorCode: SERVICE_NOT_FOUND.
func (e *Error) Code() string {
	var b strings.Builder
	for i, r := range e.Type {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

func newError(kind, format string, args ...any) *Error {
	return &Error{Type: kind, Message: fmt.Sprintf(format, args...), Status: 400}
}

// InvalidInput says that a request is wrong in itself.
func InvalidInput(format string, args ...any) *Error {
	return newError("InvalidInput", format, args...)
}

// NamespaceNotFound says that there is no such namespace.
func NamespaceNotFound(id string) *Error {
	return newError("NamespaceNotFound", "Namespace %s was not found.", id)
}

// ServiceNotFound says that there is no such service.
func ServiceNotFound(id string) *Error {
	return newError("ServiceNotFound", "Service %s was not found.", id)
}

// InstanceNotFound says that the service has no such instance.
func InstanceNotFound(service, id string) *Error {
	return newError("InstanceNotFound", "Instance %s was not found in service %s.", id, service)
}

// OperationNotFound says that there is no such operation.
func OperationNotFound(id string) *Error {
	return newError("OperationNotFound", "Operation %s was not found.", id)
}

// ResourceNotFound says that an ARN names nothing that could have tags.
func ResourceNotFound(arn string) *Error {
	return newError("ResourceNotFoundException", "Resource %s was not found.", arn)
}

// CustomHealthNotFound says that the health of an instance can't be set.
func CustomHealthNotFound(service, id string) *Error {
	return newError("CustomHealthNotFound", "Instance %s of service %s has no custom health check.", id, service)
}

// ResourceInUse says what has to go first.
func ResourceInUse(format string, args ...any) *Error {
	return newError("ResourceInUse", format, args...)
}

// ResourceLimitExceeded says which quota has been reached.
func ResourceLimitExceeded(format string, args ...any) *Error {
	return newError("ResourceLimitExceeded", format, args...)
}

// ServiceAttributesLimitExceeded says that a service has too many attributes.
func ServiceAttributesLimitExceeded(service string) *Error {
	return newError("ServiceAttributesLimitExceededException", "Service %s can have at most %d attributes.", service, MaxServiceAttributes)
}

// DuplicateRequest names the operation that is in the way.
func DuplicateRequest(what, operation string) *Error {
	e := newError("DuplicateRequest", "Another operation on %s is in progress: %s.", what, operation)
	e.Members = map[string]string{"DuplicateOperationId": operation}
	return e
}

// NamespaceAlreadyExists names the namespace that has the name.
func NamespaceAlreadyExists(name, id, creator string) *Error {
	e := newError("NamespaceAlreadyExists", "Namespace %s already exists: %s.", name, id)
	e.Members = map[string]string{"NamespaceId": id, "CreatorRequestId": creator}
	return e
}

// ServiceAlreadyExists names the service that has the name.
func ServiceAlreadyExists(name, id, arn, creator string) *Error {
	e := newError("ServiceAlreadyExists", "Service %s already exists: %s.", name, id)
	e.Members = map[string]string{"ServiceId": id, "ServiceArn": arn, "CreatorRequestId": creator}
	return e
}

// TooManyTags names the resource that would have too many tags.
func TooManyTags(arn string) *Error {
	e := newError("TooManyTagsException", "A resource can have at most %d tags.", MaxTags)
	e.Members = map[string]string{"ResourceName": arn}
	return e
}

// UnknownOperation says that a request is for none of the API's operations,
// which are known.
func UnknownOperation(method, name string, known []string) *Error {
	return newError("UnknownOperationException", "%s of operation %q: this is a registry that speaks the API of AWS Cloud Map; it takes POST with the header X-Amz-Target: %s.NAME, where NAME is one of %s.",
		method, name, TargetPrefix, strings.Join(known, ", "))
}

// Serialization says that a body can't be read at all.
func Serialization(format string, args ...any) *Error {
	return newError("SerializationException", format, args...)
}

// TooLarge says that a body exceeds limit bytes.
func TooLarge(limit int64) *Error {
	e := newError("RequestEntityTooLargeException", "The request is larger than %d bytes.", limit)
	e.Status = 413
	return e
}

// Internal says that the registry itself has failed; a client may try again.
func Internal() *Error {
	e := newError("InternalFailure", "The registry could not carry out the request; its log says why.")
	e.Status = 500
	return e
}

// Unavailable says that what the registry keeps its records in can't be asked
// now. A client tries again by itself.
func Unavailable() *Error {
	e := newError("ServiceUnavailable", "The registry can't reach the store of its records, so it takes no changes and can't say what it does not know; its log says why. Try again.")
	e.Status = 503
	return e
}

// Denied says why a caller was refused. Kind is one of AWS's common errors.
func Denied(kind, format string, args ...any) *Error {
	e := newError(kind, format, args...)
	e.Status = 403
	return e
}
