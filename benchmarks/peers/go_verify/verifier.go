package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "benchmarks/go_verify/build/identityapi/v1"
)

const (
	leeway         = 10 * time.Second
	mostRemembered = 100_000
	defaultDenial  = time.Hour
	uncompressed   = 4 // the first byte of such a point (SEC 1, 2.3.3)
)

// claims are those of an access token (RFC 9068).
type claims struct {
	jwt.RegisteredClaims
	ClientID  string `json:"client_id"`
	Scope     string `json:"scope"`
	SessionID string `json:"sid"`
}

// verifier checks signature, times, issuer, audience, scope and denylist.
type verifier struct {
	parser *jwt.Parser
	keys   map[string]*ecdsa.PublicKey

	mutex      sync.RWMutex
	denied     map[string]time.Time
	remembered map[string]*pb.VerifiedToken // nil: every signature is checked every time
}

func newVerifier(keys map[string]*ecdsa.PublicKey, issuer string, remember bool) *verifier {
	v := &verifier{
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"ES256"}),
			jwt.WithIssuer(issuer),
			jwt.WithExpirationRequired(),
			jwt.WithLeeway(leeway),
		),
		keys:   keys,
		denied: make(map[string]time.Time),
	}
	if remember {
		v.remembered = make(map[string]*pb.VerifiedToken)
	}
	return v
}

func (v *verifier) deny(id string) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	v.denied[id] = time.Now().Add(defaultDenial)
}

func (v *verifier) verify(request *pb.VerifyRequest) *pb.VerifyResponse {
	token := v.recall(request.Token)
	if token == nil {
		read, err := v.read(request.Token)
		if err != nil {
			return reject(reasonOf(err))
		}
		token = read
		v.keep(request.Token, token)
	}
	now := time.Now()
	if now.After(token.ExpireTime.AsTime().Add(leeway)) {
		return reject(pb.RejectionReason_REJECTION_REASON_EXPIRED)
	}
	if !request.AnyAudience && !slices.ContainsFunc(request.Audiences, func(audience string) bool {
		return slices.Contains(token.Audiences, audience)
	}) {
		return reject(pb.RejectionReason_REJECTION_REASON_WRONG_AUDIENCE)
	}
	for _, scope := range request.RequiredScopes {
		if !slices.Contains(token.Scopes, scope) {
			return reject(pb.RejectionReason_REJECTION_REASON_INSUFFICIENT_SCOPE)
		}
	}
	v.mutex.RLock()
	until, denied := v.denied[token.TokenId]
	v.mutex.RUnlock()
	if denied && now.Before(until) {
		return reject(pb.RejectionReason_REJECTION_REASON_REVOKED)
	}
	return &pb.VerifyResponse{Outcome: &pb.VerifyResponse_Verified{Verified: token}}
}

func (v *verifier) recall(text string) *pb.VerifiedToken {
	if v.remembered == nil {
		return nil
	}
	v.mutex.RLock()
	defer v.mutex.RUnlock()
	return v.remembered[text]
}

func (v *verifier) keep(text string, token *pb.VerifiedToken) {
	if v.remembered == nil {
		return
	}
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if len(v.remembered) >= mostRemembered {
		clear(v.remembered)
	}
	v.remembered[text] = token
}

func (v *verifier) read(text string) (*pb.VerifiedToken, error) {
	found := new(claims)
	_, err := v.parser.ParseWithClaims(text, found, func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		if key := v.keys[id]; key != nil {
			return key, nil
		}
		return nil, errUnknownKey
	})
	if err != nil {
		return nil, err
	}
	return &pb.VerifiedToken{
		Issuer:     found.Issuer,
		Subject:    found.Subject,
		Audiences:  found.Audience,
		ClientId:   found.ClientID,
		Scopes:     strings.Fields(found.Scope),
		TokenId:    found.ID,
		SessionId:  found.SessionID,
		IssueTime:  timestamppb.New(found.IssuedAt.Time),
		ExpireTime: timestamppb.New(found.ExpiresAt.Time),
	}, nil
}

var errUnknownKey = errors.New("unknown key")

func reasonOf(err error) pb.RejectionReason {
	switch {
	case errors.Is(err, errUnknownKey):
		return pb.RejectionReason_REJECTION_REASON_UNKNOWN_KEY
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return pb.RejectionReason_REJECTION_REASON_BAD_SIGNATURE
	case errors.Is(err, jwt.ErrTokenExpired):
		return pb.RejectionReason_REJECTION_REASON_EXPIRED
	default:
		return pb.RejectionReason_REJECTION_REASON_MALFORMED
	}
}

func reject(reason pb.RejectionReason) *pb.VerifyResponse {
	return &pb.VerifyResponse{Outcome: &pb.VerifyResponse_Rejected{Rejected: &pb.Rejection{Reason: reason}}}
}

// readKeys takes the P-256 keys of a JWKS (RFC 7517).
func readKeys(path string) (map[string]*ecdsa.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var set struct {
		Keys []struct{ Kid, Crv, X, Y string }
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	keys := make(map[string]*ecdsa.PublicKey)
	for _, key := range set.Keys {
		if key.Crv != "P-256" {
			continue
		}
		x, errX := base64.RawURLEncoding.DecodeString(key.X)
		y, errY := base64.RawURLEncoding.DecodeString(key.Y)
		if err := errors.Join(errX, errY); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{uncompressed}, x, y))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys[key.Kid] = public
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: no key for ES256", path)
	}
	return keys, nil
}
