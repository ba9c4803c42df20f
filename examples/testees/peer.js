// A testee for `rpcproto conform`, in JavaScript over a pipe: a small engine, RPC v1 alone.
//
// rpcproto conform --exec "node examples/testees/peer.js"
"use strict";
const { createHash, randomUUID } = require("node:crypto");

const MAX_PAYLOAD = 15360;
const bytes = (text) => Buffer.byteLength(text);
const cut = (text, limit) => {
  while (bytes(text) > limit) text = [...text].slice(0, -1).join("");
  return text;
};

// --- protobuf: what has a number is a varint, all else a text or a message as a Buffer

function* varint(number) {
  for (number = BigInt.asUintN(64, BigInt(number)); number > 127n; number >>= 7n) {
    yield Number(number & 127n) | 128;
  }
  yield Number(number);
}

function encode(fields) {
  const parts = fields.map(([field, value]) => {
    if (typeof value === "number") return Buffer.from([...varint(field << 3), ...varint(value)]);
    const content = Buffer.from(value);
    return Buffer.concat([Buffer.from([...varint((field << 3) | 2), ...varint(content.length)]), content]);
  });
  return Buffer.concat(parts);
}

function decode(data) {
  const fields = {};
  let at = 0;
  const next = () => {
    let number = 0n;
    for (let shift = 0n; ; shift += 7n) {
      if (at >= data.length || shift > 63n) throw new RangeError("no protobuf");
      number |= BigInt(data[at] & 127) << shift;
      if (data[at++] < 128) return Number(number);
    }
  };
  const take = (length) => {
    if ((at += length) > data.length) throw new RangeError("no protobuf");
    return data.subarray(at - length, at);
  };
  const group = () => {
    for (let key; ((key = next()) & 7) !== 4; ) kinds[key & 7]();
  };
  const kinds = { 0: next, 1: () => take(8), 2: () => take(next()), 3: group, 5: () => take(4) };
  while (at < data.length) {
    const key = next();
    if (kinds[key & 7] === undefined) throw new RangeError("no protobuf");
    fields[key >>> 3] = kinds[key & 7]();
  }
  return fields;
}

const text = (value) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value ?? Buffer.alloc(0));

// --- time: the suite sets the clock, so that cases of many seconds take none

let now = 0;
let order = 0;
const timers = new Map();

function after(seconds, action) {
  timers.set(++order, { at: now + seconds, action });
  return order;
}

async function advance(until) {
  for (;;) {
    await new Promise(setImmediate); // handlers that are not waiting have ended
    const due = [...timers].filter(([, { at }]) => at <= until).sort((a, b) => a[1].at - b[1].at)[0];
    if (due === undefined) break;
    const [timer, { at, action }] = due;
    now = at;
    timers.delete(timer);
    action();
  }
  now = until;
  write(Buffer.from(JSON.stringify({ now: until })));
}

// --- the engine

class RpcError extends Error {
  constructor(code, message, data = "") {
    super(message);
    Object.assign(this, { code, data });
  }
}

const calls = new Map(); // by request id
const answered = new Set(); // sender and request id
const gone = new Set();
let identity;

const send = (to, kind, fields) => write(encode([[5, to], [kind, encode(fields)]]));
const failure = ({ code, message, data }) => [3, encode([[1, code], [2, cut(message, 256)], [3, cut(data, MAX_PAYLOAD)]])];

async function answer(sender, request) {
  const id = text(request[1]);
  const respond = (field) => send(sender, 12, [[1, id], field]);
  if (answered.has(`${sender} ${id}`)) return;
  answered.add(`${sender} ${id}`);
  send(sender, 11, [[1, id]]);
  try {
    if (request[5] !== 1) throw new RpcError(1404, "Unsupported RPC version");
    const handler = handlers[text(request[2])];
    if (handler === undefined) throw new RpcError(1400, "Method not supported at destination");
    const payload = await handler(text(request[3]));
    if (bytes(payload) > MAX_PAYLOAD) throw new RpcError(1504, "Response payload too large");
    respond([2, payload]);
  } catch (error) {
    respond(failure(error instanceof RpcError ? error : new RpcError(1500, "Application error in method handler")));
  }
}

function perform(destination, method, payload, timeout = 10_000) {
  if (bytes(payload) > MAX_PAYLOAD) throw new RpcError(1402, "Request payload too large");
  return new Promise((resolve, reject) => {
    const id = randomUUID();
    const end = (settle, value) => {
      calls.delete(id);
      timers.delete(call.ack);
      timers.delete(call.response);
      settle(value);
    };
    const later = (error, seconds) => after(seconds, () => end(reject, error));
    const call = {
      destination,
      ack: later(new RpcError(1501, "Connection timeout"), 7),
      response: later(new RpcError(1502, "Response timeout"), timeout / 1000),
      succeed: (value) => end(resolve, value),
      fail: (error) => end(reject, error),
    };
    calls.set(id, call);
    send(destination, 10, [[1, id], [2, method], [3, payload], [4, Math.max(timeout - 2_000, 1_000)], [5, 1]]);
  });
}

function receive(packet) {
  const fields = decode(packet);
  const sender = text(fields[4]);
  if (fields[10]) return answer(sender, decode(fields[10]));
  const about = decode(fields[11] ?? fields[12] ?? Buffer.alloc(0));
  const call = calls.get(text(about[1]));
  if (call === undefined || call.destination !== sender) return;
  if (fields[11]) return timers.delete(call.ack);
  if (about[2] !== undefined) return call.succeed(text(about[2]));
  if (about[3] === undefined) return call.fail(new RpcError(1500, "Application error in method handler"));
  const error = decode(about[3]);
  call.fail(new RpcError(error[1] ?? 0, text(error[2]), text(error[3])));
}

// --- the methods

const counts = new Map();
const handlers = {
  "conform.echo": (payload) => {
    counts.set(payload, (counts.get(payload) ?? 0) + 1);
    return payload;
  },
  "conform.size": (payload) => "x".repeat(Number(payload)),
  "conform.count": (payload) => String(counts.get(payload) ?? 0),
  "conform.crash": (payload) => {
    throw new Error(payload);
  },
  "conform.text": (payload) => {
    const asked = JSON.parse(payload);
    return asked.text.repeat(asked.times);
  },
  "conform.fail": (payload) => {
    const { code, message, data } = JSON.parse(payload);
    throw new RpcError(code, message, data);
  },
  "conform.wait": (payload) => {
    const { seconds, answer: later } = JSON.parse(payload);
    return new Promise((resolve) => after(seconds, () => resolve(later)));
  },
  "conform.call": async (payload) => {
    const asked = JSON.parse(payload);
    try {
      const given = asked.payload.repeat(asked.times ?? 1);
      const got = await perform(asked.destination, asked.method, given, asked.response_timeout_ms);
      if (!asked.digest) return JSON.stringify({ payload: got });
      return JSON.stringify({ bytes: bytes(got), sha256: createHash("sha256").update(got).digest("hex") });
    } catch (error) {
      if (!(error instanceof RpcError)) throw error;
      return JSON.stringify({ code: error.code, message: error.message, data: error.data });
    }
  },
};

// --- the wire

function write(frame) {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(frame.length);
  process.stdout.write(Buffer.concat([length, frame]));
}

function control({ you, left, now: until }) {
  if (you !== undefined) {
    identity = you;
    const hello = { rpcproto: 1, identity, client_protocol: 0, capabilities: [], virtual_time: true };
    write(Buffer.from(JSON.stringify(hello)));
  }
  if (until !== undefined) advance(until);
  if (left !== undefined) {
    for (const call of calls.values()) {
      if (call.destination === left.identity) call.fail(new RpcError(1503, "Recipient disconnected"));
    }
  }
}

let rest = Buffer.alloc(0);
process.stdin.on("data", (data) => {
  rest = Buffer.concat([rest, data]);
  while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE()) {
    const frame = rest.subarray(4, 4 + rest.readUInt32BE());
    rest = rest.subarray(4 + frame.length);
    if (frame[0] === 0x7b) control(JSON.parse(frame));
    else {
      try {
        receive(frame);
      } catch (error) {
        if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
      }
    }
  }
});
process.stdin.on("end", () => process.exit());
