// A testee for `rpcproto conform --room`, in Go with LiveKit's server SDK.
//
//	cd examples/testees/go && go build -o testee .
//	rpcproto conform --room --exec examples/testees/go/testee
package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/livekit/server-sdk-go/v2/e2ee"
)

type asked struct {
	Text, Message, Data, Answer, Destination, Method, Payload string
	Code                                                      uint32
	Times                                                     *int
	Seconds                                                   float64
	Digest                                                    bool
	ResponseTimeoutMs                                         *int64 `json:"response_timeout_ms"`
}

type answer map[string]any

var room *lksdk.Room

func call(it asked) answer {
	times := 1
	if it.Times != nil {
		times = *it.Times
	}
	params := lksdk.PerformRpcParams{
		DestinationIdentity: it.Destination,
		Method:              it.Method,
		Payload:             strings.Repeat(it.Payload, times),
	}
	if it.ResponseTimeoutMs != nil {
		timeout := time.Duration(*it.ResponseTimeoutMs) * time.Millisecond
		params.ResponseTimeout = &timeout
	}
	got, err := room.LocalParticipant.PerformRpc(params)
	var failed *lksdk.RpcError
	switch {
	case errors.As(err, &failed):
		data := ""
		if failed.Data != nil {
			data = *failed.Data
		}
		return answer{"code": failed.Code, "message": failed.Message, "data": data}
	case err != nil:
		return answer{"raised": err.Error()}
	case it.Digest:
		return answer{"bytes": len(*got), "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte(*got)))}
	}
	return answer{"payload": *got}
}

func methods() map[string]func(payload string, it asked) (string, error) {
	var counting sync.Mutex
	counts := map[string]int{}
	count := func(payload string, more int) int {
		counting.Lock()
		defer counting.Unlock()
		counts[payload] += more
		return counts[payload]
	}
	return map[string]func(payload string, it asked) (string, error){
		"echo": func(payload string, _ asked) (string, error) { count(payload, 1); return payload, nil },
		"size": func(payload string, _ asked) (string, error) {
			size, err := strconv.Atoi(payload)
			return strings.Repeat("x", size), err
		},
		"text": func(_ string, it asked) (string, error) { return strings.Repeat(it.Text, *it.Times), nil },
		"fail": func(_ string, it asked) (string, error) {
			return "", &lksdk.RpcError{Code: lksdk.RpcErrorCode(it.Code), Message: it.Message, Data: &it.Data}
		},
		"crash": func(payload string, _ asked) (string, error) { return "", errors.New(payload) },
		"wait": func(_ string, it asked) (string, error) {
			time.Sleep(time.Duration(it.Seconds * float64(time.Second)))
			return it.Answer, nil
		},
		"count": func(payload string, _ asked) (string, error) { return strconv.Itoa(count(payload, 0)), nil },
		"call": func(_ string, it asked) (string, error) {
			said, err := json.Marshal(call(it))
			return string(said), err
		},
	}
}

func main() {
	gone := make(chan struct{})
	room = lksdk.NewRoom(&lksdk.RoomCallback{OnDisconnected: func() { close(gone) }})
	for name, method := range methods() {
		must(room.RegisterRpcMethod("conform."+name, func(data lksdk.RpcInvocationData) (string, error) {
			var it asked
			_ = json.Unmarshal([]byte(data.Payload), &it) // some payloads are texts
			return method(data.Payload, it)
		}))
	}
	options := []lksdk.ConnectOption{lksdk.WithAutoSubscribe(false)}
	if passphrase := os.Getenv("CONFORM_E2EE_PASSPHRASE"); passphrase != "" {
		provider := e2ee.NewExternalKeyProvider()
		must(provider.SetKeyFromPassphrase(passphrase, 0))
		options = append(options, lksdk.WithDataEncryption(&lksdk.EncryptionOptions{KeyProvider: provider}))
	}
	must(room.JoinWithToken(os.Getenv("LIVEKIT_URL"), os.Getenv("LIVEKIT_TOKEN"), options...))
	<-gone
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
