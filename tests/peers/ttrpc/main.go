// containerd's ttrpc, to talk to ours: `serve PATH` answers, `call PATH` asks. Messages are those that ttrpc itself has.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const service = "desk"

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers Echo with what came and the metadata's "who", fails Fail, waits in Wait for the deadline, and adds up in Sum
// what is streamed.
func serve(path string) {
	listener, err := net.Listen("unix", path)
	check(err)
	server, err := ttrpc.NewServer()
	check(err)
	server.RegisterService(service, &ttrpc.ServiceDesc{
		Methods: map[string]ttrpc.Method{
			"Echo": func(ctx context.Context, unmarshal func(interface{}) error) (interface{}, error) {
				var text wrapperspb.StringValue
				if err := unmarshal(&text); err != nil {
					return nil, err
				}
				who, _ := ttrpc.GetMetadataValue(ctx, "who")
				return wrapperspb.String(who + text.Value), nil
			},
			"Fail": func(context.Context, func(interface{}) error) (interface{}, error) {
				return nil, status.Error(codes.NotFound, "nothing of that name")
			},
			"Wait": func(ctx context.Context, _ func(interface{}) error) (interface{}, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		},
		Streams: map[string]ttrpc.Stream{
			"Sum": {
				StreamingClient: true,
				StreamingServer: true,
				Handler: func(_ context.Context, stream ttrpc.StreamServer) (interface{}, error) {
					var sum int64
					for {
						var number wrapperspb.Int64Value
						if err := stream.RecvMsg(&number); errors.Is(err, io.EOF) {
							return nil, nil
						} else if err != nil {
							return nil, err
						}
						sum += number.Value
						if err := stream.SendMsg(wrapperspb.Int64(sum)); err != nil {
							return nil, err
						}
					}
				},
			},
		},
	})
	fmt.Println("ready")
	check(server.Serve(context.Background(), listener))
}

// call prints what comes back, one line each.
func call(path string) {
	conn, err := net.Dial("unix", path)
	check(err)
	client := ttrpc.NewClient(conn)
	ask := func(ctx context.Context, method, text string) {
		var answer wrapperspb.StringValue
		err := client.Call(ctx, service, method, wrapperspb.String(text), &answer)
		value := answer.Value
		if len(value) > 100 {
			value = fmt.Sprintf("%d bytes", len(value))
		}
		fmt.Printf("%s: %s %v\n", method, value, err)
	}
	background := ttrpc.WithMetadata(context.Background(), ttrpc.MD{"who": {"me "}})
	ask(background, "Echo", "hello")
	ask(background, "Echo", strings.Repeat("x", 4<<20-100))
	ask(background, "Fail", "")
	ask(background, "Nothing", "")
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	ask(ctx, "Wait", "")
	ask(background, "Echo", "still here")
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	}
	call(os.Args[2])
}
