package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"patchbay/bench/day"
	"patchbay/bench/load"
	"patchbay/bench/model"
	"patchbay/bench/push"
)

// The processes under test are this program too.

func newPushServer() *cobra.Command {
	var engine, certs string
	var streams, services, endpoints int
	c := &cobra.Command{
		Use: "push-server", Short: "A control plane under orders from standard input", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return push.Serve(c.Context(), engine, streams, services, endpoints, certs, os.Stdin, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&engine, "engine", "", "which")
	c.Flags().StringVar(&certs, "certs", "", "directory of certificates for mutual TLS")
	c.Flags().IntVar(&streams, "streams", 0, "sidecars that will come")
	c.Flags().IntVar(&services, "services", 0, "services of the mesh")
	c.Flags().IntVar(&endpoints, "endpoints", 0, "endpoints of each service")
	return c
}

func newPushClients() *cobra.Command {
	var address, certs string
	var s model.Shape
	var first int
	c := &cobra.Command{
		Use: "push-clients", Short: "Model Envoys under orders from standard input", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return model.Connect(c.Context(), s, first, address, certs, os.Stdin, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&address, "address", "", "of the control plane")
	c.Flags().StringVar(&certs, "certs", "", "directory of certificates for mutual TLS")
	c.Flags().IntVar(&s.Streams, "streams", 0, "how many")
	c.Flags().IntVar(&first, "first", 0, "number of the first")
	c.Flags().IntVar(&s.Services, "services", 0, "services that each will be told of")
	c.Flags().IntVar(&s.Endpoints, "endpoints", 0, "endpoints of each service")
	return c
}

func newApp() *cobra.Command {
	return &cobra.Command{
		Use: "app", Short: "An application of every protocol; prints its ports", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return load.Serve(c.Context(), c.OutOrStdout()) },
	}
}

func newLoad() *cobra.Command {
	var protocol, address string
	var rate int
	var fresh bool
	var d time.Duration
	c := &cobra.Command{
		Use: "load", Short: "Calls at a fixed rate and prints latencies", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return load.Open(c.Context(), protocol, address, rate, d, fresh, c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&protocol, "protocol", "http", "http, http2, grpc or tcp")
	c.Flags().StringVar(&address, "address", "", "whom to call")
	c.Flags().IntVar(&rate, "rate", 1000, "requests per second")
	c.Flags().DurationVar(&d, "duration", time.Second, "for how long")
	c.Flags().BoolVar(&fresh, "fresh", false, "a connection for each request, where the protocol is tcp")
	return c
}

func newDay() *cobra.Command {
	return &cobra.Command{
		Use: "day CASE LENGTH FILE", Short: "Simulates a day of discovery", Hidden: true, Args: cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			length, err := time.ParseDuration(args[1])
			if err == nil {
				day.Main(args[0], length, args[2])
			}
			return err
		},
	}
}
