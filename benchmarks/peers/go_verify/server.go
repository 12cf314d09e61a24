// What the service is measured against: a gRPC server in Go that answers Verify and VerifyBatch of the same
// protos, and an empty method. Usage: go_verify -jwks FILE -issuer NAME [-denials N] [-remember]; prints its
// port once it serves.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	pb "benchmarks/go_verify/build/identityapi/v1"
)

type server struct {
	pb.UnimplementedIdentityServiceServer
	verifier *verifier
}

func (s *server) Verify(_ context.Context, request *pb.VerifyRequest) (*pb.VerifyResponse, error) {
	return s.verifier.verify(request), nil
}

func (s *server) VerifyBatch(_ context.Context, batch *pb.VerifyBatchRequest) (*pb.VerifyBatchResponse, error) {
	responses := make([]*pb.VerifyResponse, len(batch.Requests))
	for i, request := range batch.Requests {
		responses[i] = s.verifier.verify(request)
	}
	return &pb.VerifyBatchResponse{Responses: responses}, nil
}

// The yardstick's method, as generated code would describe it.
var yardstick = grpc.ServiceDesc{
	ServiceName: "benchmarks.Yardstick",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Empty",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			empty := new(emptypb.Empty)
			return empty, decode(empty)
		},
	}},
}

func main() {
	jwks := flag.String("jwks", "", "file with the public keys")
	issuer := flag.String("issuer", "", "the issuer that tokens must name")
	denials := flag.Int("denials", 0, "entries of the denylist")
	remember := flag.Bool("remember", false, "check the signature of a token only once")
	flag.Parse()

	keys, err := readKeys(*jwks)
	if err != nil {
		log.Fatal(err)
	}
	verifier := newVerifier(keys, *issuer, *remember)
	for range *denials {
		verifier.deny(randomID())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	transport := grpc.NewServer(grpc.MaxRecvMsgSize(16<<20), grpc.MaxSendMsgSize(16<<20))
	pb.RegisterIdentityServiceServer(transport, &server{verifier: verifier})
	transport.RegisterService(&yardstick, struct{}{})
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		transport.Stop()
	}()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if err := transport.Serve(listener); err != nil {
		log.Fatal(err)
	}
}

func randomID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return base64.RawURLEncoding.EncodeToString(id)
}
