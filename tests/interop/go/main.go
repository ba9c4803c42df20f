// One participant, LiveKit's SDK for Go, told what to do by JSON lines on standard input: the commands
// of client.py.
package main

import (
	"bufio"
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

type keys struct {
	Shared   *string `json:"shared"`
	Kdf      string  `json:"kdf"`
	KeyIndex uint32  `json:"key_index"`
}

type command struct {
	ID         int      `json:"id"`
	Do         string   `json:"do"`
	URL        string   `json:"url"`
	Token      string   `json:"token"`
	Keys       *keys    `json:"keys"`
	Identity   string   `json:"identity"`
	To         string   `json:"to"`
	Method     string   `json:"method"`
	Payload    string   `json:"payload"`
	Timeout    *float64 `json:"timeout"`
	Count      int      `json:"count"`
	AtOnce     int      `json:"at_once"`
	Passphrase string   `json:"passphrase"`
	Index      uint32   `json:"index"`
}

type answer map[string]any

type client struct {
	room     *lksdk.Room
	provider *e2ee.ExternalKeyProvider
	writing  sync.Mutex
	counting sync.Mutex
	counts   map[string]int
}

func main() {
	it := &client{counts: map[string]int{}}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 0, 1<<16), 16<<20)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		go func() {
			said, err := it.do(asked)
			if err != nil {
				said = answer{"failure": err.Error()}
			}
			said["id"] = asked.ID
			it.write(said)
		}()
	}
	if it.room != nil {
		it.room.Disconnect()
	}
}

func (it *client) write(line answer) {
	it.writing.Lock()
	defer it.writing.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		panic(err)
	}
}

func (it *client) do(asked command) (answer, error) {
	switch asked.Do {
	case "connect":
		return answer{}, it.connect(asked)
	case "wait":
		return answer{}, it.wait(asked.Identity)
	case "leave":
		it.room.Disconnect()
		return answer{}, nil
	case "switch_key":
		return answer{}, it.provider.SetKeyFromPassphrase(asked.Passphrase, asked.Index)
	case "call":
		return it.outcome(asked.To, asked.Method, asked.Payload, asked.Timeout), nil
	case "calls":
		return it.calls(asked), nil
	}
	return nil, fmt.Errorf("unknown command %q", asked.Do)
}

func (it *client) connect(asked command) error {
	options := []lksdk.ConnectOption{lksdk.WithAutoSubscribe(false)}
	if asked.Keys != nil {
		it.provider = e2ee.NewExternalKeyProvider()
		if asked.Keys.Shared == nil || asked.Keys.Kdf != "pbkdf2" {
			return errors.New("there is one passphrase")
		}
		if err := it.provider.SetKeyFromPassphrase(*asked.Keys.Shared, asked.Keys.KeyIndex); err != nil {
			return err
		}
		options = append(options, lksdk.WithDataEncryption(&lksdk.EncryptionOptions{KeyProvider: it.provider}))
	}
	it.room = lksdk.NewRoom(&lksdk.RoomCallback{})
	it.serve()
	return it.room.JoinWithToken(asked.URL, asked.Token, options...)
}

func (it *client) wait(identity string) error {
	for it.room.GetParticipantByIdentity(identity) == nil {
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func (it *client) call(to, method, payload string, timeout *float64) (string, error) {
	params := lksdk.PerformRpcParams{DestinationIdentity: to, Method: method, Payload: payload}
	if timeout != nil {
		duration := time.Duration(*timeout * float64(time.Second))
		params.ResponseTimeout = &duration
	}
	result, err := it.room.LocalParticipant.PerformRpc(params)
	if err != nil {
		return "", err
	}
	return *result, nil
}

func (it *client) outcome(to, method, payload string, timeout *float64) answer {
	began := time.Now()
	result, err := it.call(to, method, payload, timeout)
	said := answer{"seconds": time.Since(began).Seconds()}
	var failed *lksdk.RpcError
	switch {
	case err == nil:
		said["payload"] = result
	case errors.As(err, &failed):
		said["code"], said["message"], said["data"] = failed.Code, failed.Message, ""
		if failed.Data != nil {
			said["data"] = *failed.Data
		}
	default:
		said["code"], said["message"], said["data"] = 0, err.Error(), ""
	}
	return said
}

func (it *client) calls(asked command) answer {
	outcomes, numbers := map[string]int{}, make(chan int)
	var counted sync.Mutex
	var running sync.WaitGroup
	began := time.Now()
	for range asked.AtOnce {
		running.Add(1)
		go func() {
			defer running.Done()
			for number := range numbers {
				payload := "call " + strconv.Itoa(number)
				said := it.outcome(asked.To, "echo", payload, asked.Timeout)
				what := fmt.Sprint(said["code"])
				if said["payload"] == payload {
					what = "right"
				} else if said["payload"] != nil {
					what = "wrong"
				}
				counted.Lock()
				outcomes[what]++
				counted.Unlock()
			}
		}()
	}
	for number := range asked.Count {
		numbers <- number
	}
	close(numbers)
	running.Wait()
	return answer{"outcomes": outcomes, "seconds": time.Since(began).Seconds()}
}

func (it *client) serve() {
	for method, handler := range map[string]lksdk.RpcHandlerFunc{
		"greet": func(data lksdk.RpcInvocationData) (string, error) {
			return "Hello, " + data.CallerIdentity + "!", nil
		},
		"echo": func(data lksdk.RpcInvocationData) (string, error) { return data.Payload, nil },
		"fill": func(data lksdk.RpcInvocationData) (string, error) {
			size, err := strconv.Atoi(data.Payload)
			return strings.Repeat("y", size), err
		},
		"refuse": func(lksdk.RpcInvocationData) (string, error) {
			more := `{"ask": "tomorrow ☀"}`
			return "", lksdk.NewRpcError(7001, "not today", &more)
		},
		"break": func(lksdk.RpcInvocationData) (string, error) {
			return "", errors.New("a secret of the handler")
		},
		"count": func(data lksdk.RpcInvocationData) (string, error) {
			it.counting.Lock()
			defer it.counting.Unlock()
			it.counts[data.Payload]++
			return strconv.Itoa(it.counts[data.Payload]), nil
		},
		"hang": func(data lksdk.RpcInvocationData) (string, error) {
			it.write(answer{"event": "started", "payload": data.Payload})
			time.Sleep(time.Minute)
			return "never", nil
		},
		"relay": func(data lksdk.RpcInvocationData) (string, error) {
			depth, err := strconv.Atoi(data.Payload)
			if err != nil || depth == 0 {
				return ".", err
			}
			rest, err := it.call(data.CallerIdentity, "relay", strconv.Itoa(depth-1), nil)
			return data.Payload + rest, err
		},
	} {
		if err := it.room.RegisterRpcMethod(method, handler); err != nil {
			panic(err)
		}
	}
}
