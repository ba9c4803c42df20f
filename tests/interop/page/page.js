// The commands of client.py with LiveKit's JavaScript client; and a form for a person.
"use strict";

const { BaseKeyProvider, Room, RoomEvent, RpcError } = LivekitClient;
const SHOWN = 28;
const parameters = new URLSearchParams(location.search);
const counts = new Map();
let room;
let keyProvider;
let tell = () => {};

const element = (id) => document.getElementById(id);
const short = (text) => (text.length > SHOWN ? `${text.slice(0, SHOWN)}… (${text.length})` : text);

function show(caller, method, payload, answer, isError, milliseconds) {
  const row = element("log").insertRow(0);
  for (const text of [caller, method, short(payload), short(answer), `${milliseconds.toFixed(1)} ms`]) {
    row.insertCell().textContent = text;
  }
  if (isError) row.classList.add("error");
  while (element("log").rows.length > 20) element("log").deleteRow(-1);
}

async function shown(caller, method, payload, work) {
  const began = performance.now();
  let answer;
  let isError = false;
  try {
    answer = await work();
    return answer;
  } catch (error) {
    isError = true;
    answer = `${error.code ?? ""} ${error.message}`;
    throw error;
  } finally {
    show(caller, method, payload, answer, isError, performance.now() - began);
  }
}

function perform(to, method, payload, timeout) {
  return room.localParticipant.performRpc({
    destinationIdentity: to,
    method,
    payload,
    ...(timeout == null ? {} : { responseTimeout: timeout * 1000 }),
  });
}

const methods = {
  greet: async (data) => `Hello, ${data.callerIdentity}!`,
  echo: async (data) => data.payload,
  fill: async (data) => "y".repeat(Number(data.payload)),
  refuse: async () => {
    throw new RpcError(7001, "not today", '{"ask": "tomorrow ☀"}');
  },
  break: async () => {
    throw new Error("a secret of the handler");
  },
  count: async (data) => {
    counts.set(data.payload, (counts.get(data.payload) ?? 0) + 1);
    return String(counts.get(data.payload));
  },
  hang: async (data) => {
    tell("started", data.payload);
    return new Promise(() => {});
  },
  relay: async (data) => {
    const depth = Number(data.payload);
    if (depth === 0) return ".";
    return depth + (await perform(data.callerIdentity, "relay", String(depth - 1)));
  },
};

// A passphrase as it is means PBKDF2, as bytes HKDF. With ratcheting, one packet that cannot be
// decrypted would change the key.
class Keys extends BaseKeyProvider {
  constructor(isShared) {
    super({ sharedKey: isShared, ratchetWindowSize: 0, failureTolerance: -1 });
  }

  async set(passphrase, kdf, index, identity) {
    const bytes = new TextEncoder().encode(passphrase);
    const algorithm = kdf.toUpperCase();
    const usages = ["deriveBits", "deriveKey"];
    const key = await crypto.subtle.importKey("raw", bytes, algorithm, false, usages);
    this.onSetEncryptionKey(key, identity, index);
  }
}

async function optionsFor(keys) {
  if (keys == null) return {};
  keyProvider = new Keys(keys.shared != null);
  if (keys.shared != null) await keyProvider.set(keys.shared, keys.kdf, keys.key_index);
  for (const [identity, passphrase] of Object.entries(keys.own)) {
    await keyProvider.set(passphrase, keys.kdf, keys.key_index, identity);
  }
  return { encryption: { keyProvider, worker: new Worker("livekit-client.e2ee.worker.js") } };
}

// Until the worker has confirmed that encryption is on, the client sends plain packets.
async function encrypted() {
  await room.setE2EEEnabled(true);
  while (!room.isE2EEEnabled) await new Promise((resolve) => setTimeout(resolve, 10));
}

async function join(url, token, keys) {
  room = new Room(await optionsFor(keys));
  room.on(RoomEvent.Disconnected, () => {
    element("state").textContent = "not in a room any more";
  });
  for (const [name, handler] of Object.entries(methods)) {
    room.registerRpcMethod(name, (data) =>
      shown(data.callerIdentity, name, data.payload, () => handler(data)),
    );
  }
  await room.connect(url, token, { autoSubscribe: false });
  if (keys != null) await encrypted();
  const { identity } = room.localParticipant;
  element("state").textContent = `in room “${room.name}” as “${identity}”, with LiveKit's JavaScript client ${LivekitClient.version}`;
  element("call").querySelector("button").disabled = false;
}

async function outcome(to, method, payload, timeout) {
  const began = performance.now();
  let answer;
  try {
    answer = {
      payload: await shown(room.localParticipant.identity, method, payload, () =>
        perform(to, method, payload, timeout),
      ),
    };
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    answer = { code: error.code, message: error.message, data: error.data ?? "" };
  }
  return { ...answer, seconds: (performance.now() - began) / 1000 };
}

const commands = {
  connect: async ({ url, token, keys }) => {
    await join(url, token, keys);
    return {};
  },
  switch_key: async ({ passphrase, index }) => {
    await keyProvider.set(passphrase, "pbkdf2", index);
    return {};
  },
  wait: async ({ identity }) => {
    await new Promise((resolve) => {
      const look = () => {
        if (room.remoteParticipants.has(identity)) resolve();
      };
      room.on(RoomEvent.ParticipantConnected, look);
      look();
    });
    return {};
  },
  leave: async () => {
    await room.disconnect();
    return {};
  },
  call: async ({ to, method, payload, timeout }) => outcome(to, method, payload, timeout),
  calls: async ({ to, count, at_once: atOnce, timeout }) => {
    const outcomes = {};
    let next = 0;
    const began = performance.now();
    const callOn = async () => {
      while (next < count) {
        const payload = `call ${next++}`;
        let result;
        try {
          result = (await perform(to, "echo", payload, timeout)) === payload ? "right" : "wrong";
        } catch (error) {
          result = String(error.code);
        }
        outcomes[result] = (outcomes[result] ?? 0) + 1;
      }
    };
    await Promise.all(Array.from({ length: atOnce }, callOn));
    return { outcomes, seconds: (performance.now() - began) / 1000 };
  },
};

function obey(name) {
  const socket = new WebSocket(`ws://${location.host}/control?name=${name}`);
  const say = (message) => socket.send(JSON.stringify(message));
  tell = (event, payload) => say({ event, payload });
  socket.onmessage = async ({ data }) => {
    const { id, do: name_, ...fields } = JSON.parse(data);
    try {
      say({ id, ...(await commands[name_](fields)) });
    } catch (error) {
      say({ id, failure: String(error) });
    }
  };
}

element("call").addEventListener("submit", async (event) => {
  event.preventDefault();
  await outcome(element("to").value, element("method").value, element("payload").value);
});

if (parameters.has("name")) {
  obey(parameters.get("name"));
} else {
  fetch("invitation")
    .then((response) => response.json())
    .then(({ url, token }) => join(url, token));
}
