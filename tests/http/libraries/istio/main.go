// Reads the spec of a manifest of Istio, as JSON, into Istio's own type of the API, and fails for what the type lacks.
package main

import (
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/api/mesh/v1alpha1"
	"istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
)

var kinds = map[string]proto.Message{
	"MeshConfig":            &v1alpha1.MeshConfig{},
	"EnvoyFilter":           &v1alpha3.EnvoyFilter{},
	"RequestAuthentication": &security.RequestAuthentication{},
	"AuthorizationPolicy":   &security.AuthorizationPolicy{},
}

func main() {
	content, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = protojson.Unmarshal(content, kinds[os.Args[1]])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
