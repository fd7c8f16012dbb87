package api

// Suffered is what the applications of one sidecar saw while a fault lasted.
type Suffered struct {
	Node     string `json:"node"`
	Requests uint64 `json:"requests"` // that were answered, to any service
	Failed   uint64 `json:"failed"`   // of them, with 5xx
	Aborted  uint64 `json:"aborted"`  // of them, by the fault itself
	Delayed  uint64 `json:"delayed"`
	// Distrusted are connections to any service that were given up because of
	// the certificate that it showed.
	Distrusted uint64 `json:"distrusted"`
	// Lost says that the sidecar could not be asked at both ends.
	Lost bool `json:"lost,omitempty"`
}
