package model

// The model of App Mesh, as its API (2019-01-25) has it.
type (
	// MeshSpec is that of a mesh.
	MeshSpec struct {
		EgressFilter *struct {
			Type string `json:"type"`
		} `json:"egressFilter"`
		ServiceDiscovery *struct {
			IPPreference string `json:"ipPreference"`
		} `json:"serviceDiscovery"`
	}

	// NodeSpec is that of a virtual node.
	NodeSpec struct {
		Backends         []Backend        `json:"backends"`
		BackendDefaults  *BackendDefaults `json:"backendDefaults"`
		Listeners        []Listener       `json:"listeners"`
		Logging          *Logging         `json:"logging"`
		ServiceDiscovery *Discovery       `json:"serviceDiscovery"`
	}
	// Backend is a virtual service that a node calls.
	Backend struct {
		VirtualService *struct {
			VirtualServiceName string        `json:"virtualServiceName"`
			ClientPolicy       *ClientPolicy `json:"clientPolicy"`
		} `json:"virtualService"`
	}
	// BackendDefaults are those of all backends.
	BackendDefaults struct {
		ClientPolicy *ClientPolicy `json:"clientPolicy"`
	}
	// ClientPolicy is how a caller connects.
	ClientPolicy struct {
		TLS *ClientTLS `json:"tls"`
	}
	// ClientTLS is what a caller wants of TLS.
	ClientTLS struct {
		Enforce     *bool        `json:"enforce"`
		Ports       []int64      `json:"ports"`
		Certificate *Certificate `json:"certificate"`
		Validation  *Validation  `json:"validation"`
	}
	// Validation is how a certificate is verified.
	Validation struct {
		SubjectAlternativeNames *struct {
			Match *struct {
				Exact []string `json:"exact"`
			} `json:"match"`
		} `json:"subjectAlternativeNames"`
		Trust *struct {
			ACM *struct {
				CertificateAuthorityARNs []string `json:"certificateAuthorityArns"`
			} `json:"acm"`
			File *struct {
				CertificateChain string `json:"certificateChain"`
			} `json:"file"`
			SDS *SDSSecret `json:"sds"`
		} `json:"trust"`
	}
	// Certificate is one that is shown: exactly one member is there.
	Certificate struct {
		ACM *struct {
			CertificateARN string `json:"certificateArn"`
		} `json:"acm"`
		File *struct {
			CertificateChain string `json:"certificateChain"`
			PrivateKey       string `json:"privateKey"`
		} `json:"file"`
		SDS *SDSSecret `json:"sds"`
	}
	// SDSSecret names a secret of a provider in the task.
	SDSSecret struct {
		SecretName string `json:"secretName"`
	}
	// Listener is a port of a node or a gateway.
	Listener struct {
		PortMapping      PortMapping  `json:"portMapping"`
		HealthCheck      *HealthCheck `json:"healthCheck"`
		TLS              *ListenerTLS `json:"tls"`
		Timeout          *Timeouts    `json:"timeout"`
		OutlierDetection *Outliers    `json:"outlierDetection"`
		ConnectionPool   *Pools       `json:"connectionPool"`
	}
	// PortMapping is its port and protocol: http, http2, grpc, tcp.
	PortMapping struct {
		Port     int64  `json:"port"`
		Protocol string `json:"protocol"`
	}
	// HealthCheck is what callers ask it.
	HealthCheck struct {
		HealthyThreshold   int64  `json:"healthyThreshold"`
		IntervalMillis     int64  `json:"intervalMillis"`
		Path               string `json:"path"`
		Port               int64  `json:"port"`
		Protocol           string `json:"protocol"`
		TimeoutMillis      int64  `json:"timeoutMillis"`
		UnhealthyThreshold int64  `json:"unhealthyThreshold"`
	}
	// ListenerTLS is its TLS: mode STRICT, PERMISSIVE or DISABLED.
	ListenerTLS struct {
		Mode        string       `json:"mode"`
		Certificate *Certificate `json:"certificate"`
		Validation  *Validation  `json:"validation"`
	}
	// Duration has the unit s or ms.
	Duration struct {
		Unit  string `json:"unit"`
		Value int64  `json:"value"`
	}
	// Timeouts are those of a listener, by protocol.
	Timeouts struct {
		HTTP  *Timeout `json:"http"`
		HTTP2 *Timeout `json:"http2"`
		GRPC  *Timeout `json:"grpc"`
		TCP   *Timeout `json:"tcp"`
	}
	// Timeout are those of calls; of tcp, Idle alone.
	Timeout struct {
		Idle       *Duration `json:"idle"`
		PerRequest *Duration `json:"perRequest"`
	}
	// Outliers say when a task is avoided.
	Outliers struct {
		MaxServerErrors      int64     `json:"maxServerErrors"`
		Interval             *Duration `json:"interval"`
		BaseEjectionDuration *Duration `json:"baseEjectionDuration"`
		MaxEjectionPercent   int64     `json:"maxEjectionPercent"`
	}
	// Pools are those of a listener, by protocol.
	Pools struct {
		HTTP  *Pool `json:"http"`
		HTTP2 *Pool `json:"http2"`
		GRPC  *Pool `json:"grpc"`
		TCP   *Pool `json:"tcp"`
	}
	// Pool bounds connections (http, tcp) or requests (http2, grpc).
	Pool struct {
		MaxConnections     int64 `json:"maxConnections"`
		MaxPendingRequests int64 `json:"maxPendingRequests"`
		MaxRequests        int64 `json:"maxRequests"`
	}
	// Logging is where access logs go.
	Logging struct {
		AccessLog *struct {
			File *struct {
				Path   string `json:"path"`
				Format *struct {
					Text string `json:"text"`
					JSON []struct {
						Key   string `json:"key"`
						Value string `json:"value"`
					} `json:"json"`
				} `json:"format"`
			} `json:"file"`
		} `json:"accessLog"`
	}
	// Discovery is how the tasks of a node are found: exactly one member is there.
	Discovery struct {
		AWSCloudMap *struct {
			NamespaceName string `json:"namespaceName"`
			ServiceName   string `json:"serviceName"`
			IPPreference  string `json:"ipPreference"`
			Attributes    []struct {
				Key   string `json:"key"`
				Value string `json:"value"`
			} `json:"attributes"`
		} `json:"awsCloudMap"`
		DNS *struct {
			Hostname     string `json:"hostname"`
			ResponseType string `json:"responseType"`
			IPPreference string `json:"ipPreference"`
		} `json:"dns"`
	}

	// ServiceSpec is that of a virtual service.
	ServiceSpec struct {
		Provider *struct {
			VirtualNode *struct {
				VirtualNodeName string `json:"virtualNodeName"`
			} `json:"virtualNode"`
			VirtualRouter *struct {
				VirtualRouterName string `json:"virtualRouterName"`
			} `json:"virtualRouter"`
		} `json:"provider"`
	}
	// RouterSpec is that of a virtual router.
	RouterSpec struct {
		Listeners []struct {
			PortMapping PortMapping `json:"portMapping"`
		} `json:"listeners"`
	}
	// RouteSpec is that of a route or a gateway route: exactly one protocol is there.
	RouteSpec struct {
		Priority *int64 `json:"priority"`
		HTTP     *Route `json:"httpRoute"`
		HTTP2    *Route `json:"http2Route"`
		GRPC     *Route `json:"grpcRoute"`
		TCP      *Route `json:"tcpRoute"`
	}
	// Route is that of any protocol: each has some of the members.
	Route struct {
		Match       *Match       `json:"match"`
		Action      *Action      `json:"action"`
		RetryPolicy *RetryPolicy `json:"retryPolicy"`
		Timeout     *Timeout     `json:"timeout"`
	}
	// Match is what a request must fulfil, all of it.
	Match struct {
		Prefix          string      `json:"prefix"`
		Path            *PathMatch  `json:"path"`
		Method          string      `json:"method"`
		Scheme          string      `json:"scheme"`
		Port            int64       `json:"port"`
		Headers         []Condition `json:"headers"`
		Metadata        []Condition `json:"metadata"`
		QueryParameters []Condition `json:"queryParameters"`
		ServiceName     string      `json:"serviceName"`
		MethodName      string      `json:"methodName"`
		Hostname        *struct {
			Exact  string `json:"exact"`
			Suffix string `json:"suffix"`
		} `json:"hostname"` // of gateway routes
	}
	// PathMatch is one of an exact path and a regular expression.
	PathMatch struct {
		Exact string `json:"exact"`
		Regex string `json:"regex"`
	}
	// Condition is one on a header, on metadata or on the query.
	Condition struct {
		Name   string `json:"name"`
		Invert bool   `json:"invert"`
		Match  *struct {
			Exact  *string `json:"exact"`
			Prefix *string `json:"prefix"`
			Suffix *string `json:"suffix"`
			Regex  *string `json:"regex"`
			Range  *struct {
				Start int64 `json:"start"`
				End   int64 `json:"end"`
			} `json:"range"`
		} `json:"match"`
	}
	// Action is where requests go.
	Action struct {
		WeightedTargets []struct {
			VirtualNode string `json:"virtualNode"`
			Weight      int64  `json:"weight"`
			Port        int64  `json:"port"`
		} `json:"weightedTargets"`
		Target *struct {
			VirtualService *struct {
				VirtualServiceName string `json:"virtualServiceName"`
			} `json:"virtualService"`
			Port int64 `json:"port"`
		} `json:"target"` // of gateway routes
		Rewrite *struct {
			Hostname *struct {
				DefaultTargetHostname string `json:"defaultTargetHostname"`
			} `json:"hostname"`
			Path *struct {
				Exact string `json:"exact"`
			} `json:"path"`
			Prefix *struct {
				DefaultPrefix string `json:"defaultPrefix"`
				Value         string `json:"value"`
			} `json:"prefix"`
		} `json:"rewrite"` // of gateway routes
	}
	// RetryPolicy says what is tried again.
	RetryPolicy struct {
		MaxRetries      int64     `json:"maxRetries"`
		PerRetryTimeout *Duration `json:"perRetryTimeout"`
		HTTPRetryEvents []string  `json:"httpRetryEvents"`
		TCPRetryEvents  []string  `json:"tcpRetryEvents"`
		GRPCRetryEvents []string  `json:"grpcRetryEvents"`
	}
	// GatewaySpec is that of a virtual gateway.
	GatewaySpec struct {
		BackendDefaults *BackendDefaults `json:"backendDefaults"`
		Listeners       []Listener       `json:"listeners"`
		Logging         *Logging         `json:"logging"`
	}
)
