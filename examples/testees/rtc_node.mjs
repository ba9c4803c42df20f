// A testee for `rpcproto conform --room`, in node with LiveKit's SDK `@livekit/rtc-node`, which is
// looked for in the folder NODE_MODULES.
//
// NODE_MODULES=node_modules rpcproto conform --room --exec "node examples/testees/rtc_node.mjs"

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { register } from "./methods.mjs";

const modules = resolve(process.env.NODE_MODULES ?? "node_modules");
const { Room, RoomEvent, RpcError } = createRequire(`${modules}/`)("@livekit/rtc-node");

const passphrase = process.env.CONFORM_E2EE_PASSPHRASE;
const encryption = passphrase && {
  keyProviderOptions: { sharedKey: new TextEncoder().encode(passphrase) },
};

const room = new Room();
room.on(RoomEvent.Disconnected, () => process.exit());
await room.connect(process.env.LIVEKIT_URL, process.env.LIVEKIT_TOKEN, {
  autoSubscribe: false,
  dynacast: false,
  ...(encryption && { encryption }),
});
register(room, RpcError, (text) => createHash("sha256").update(text).digest("hex"));
