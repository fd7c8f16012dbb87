package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

func newGet() *cobra.Command {
	var timeout time.Duration
	var http2 bool
	c := &cobra.Command{
		Use: "get URL", Short: "One GET; prints the body; fails unless the status is 2xx", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, args[0], nil)
			if err != nil {
				return err
			}
			transport := http.DefaultTransport.(*http.Transport).Clone()
			if http2 {
				transport.Protocols = new(http.Protocols)
				transport.Protocols.SetUnencryptedHTTP2(true)
			}
			resp, err := (&http.Client{Timeout: timeout, Transport: transport}).Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if _, err := io.Copy(c.OutOrStdout(), resp.Body); err != nil {
				return err
			}
			if resp.StatusCode/100 != 2 {
				return fmt.Errorf("status %s", resp.Status)
			}
			return nil
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "limit of the whole call")
	c.Flags().BoolVar(&http2, "http2", false, "HTTP/2 in plain text, with prior knowledge")
	return c
}

func newGRPC() *cobra.Command {
	return &cobra.Command{
		Use: "grpc HOST:PORT", Short: "One gRPC call (grpc.health.v1.Health/Check); prints who answered", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := grpc.NewClient("passthrough:///"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return err
			}
			defer conn.Close()
			var trailer metadata.MD
			resp, err := grpc_health_v1.NewHealthClient(conn).Check(c.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer))
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), resp.GetStatus(), trailer.Get("served-by"))
			return nil
		},
	}
}

func newTCP() *cobra.Command {
	return &cobra.Command{
		Use: "tcp HOST:PORT", Short: "Connect, print the server's greeting, send a line, print its echo", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(c.Context(), "tcp", args[0])
			if err != nil {
				return err
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			r := bufio.NewReader(conn)
			greeting, err := r.ReadString('\n')
			if err != nil {
				return fmt.Errorf("wait for the server's greeting: %w", err)
			}
			fmt.Fprintln(conn, "ping")
			echo, err := r.ReadString('\n')
			if err != nil {
				return fmt.Errorf("wait for the echo: %w", err)
			}
			fmt.Fprint(c.OutOrStdout(), greeting, echo)
			return nil
		},
	}
}
