package config

// Wrong is an error of what was configured that shows only when it is used: a
// file that is not there, a cluster that lets nobody in. Find it with
// errors.AsType; its text is that of Err.
type Wrong struct{ Err error }

func (e *Wrong) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *Wrong) Unwrap() error { return e.Err }
