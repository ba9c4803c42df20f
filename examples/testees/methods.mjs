// The methods of a testee on one of LiveKit's SDKs for JavaScript: in node or in a browser.

const counts = new Map();

/** Serve them. `RpcError` is the SDK's, and `sha256` gives the digest of a text in hex. */
export function register(room, RpcError, sha256) {
  const methods = {
    echo: async ({ payload }) => {
      counts.set(payload, (counts.get(payload) ?? 0) + 1);
      return payload;
    },
    size: async ({ payload }) => "x".repeat(Number(payload)),
    text: async ({ payload }) => {
      const { text, times } = JSON.parse(payload);
      return text.repeat(times);
    },
    fail: async ({ payload }) => {
      const { code, message, data } = JSON.parse(payload);
      throw new RpcError(code, message, data);
    },
    crash: async ({ payload }) => {
      throw new Error(payload);
    },
    wait: async ({ payload }) => {
      const { seconds, answer } = JSON.parse(payload);
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      return answer;
    },
    count: async ({ payload }) => String(counts.get(payload) ?? 0),
    call: async ({ payload }) => JSON.stringify(await outcome(room, JSON.parse(payload))),
  };

  async function outcome(room, asked) {
    try {
      const answer = await room.localParticipant.performRpc({
        destinationIdentity: asked.destination,
        method: asked.method,
        payload: asked.payload.repeat(asked.times ?? 1),
        responseTimeout: asked.response_timeout_ms,
      });
      if (!asked.digest) return { payload: answer };
      return { bytes: new TextEncoder().encode(answer).length, sha256: await sha256(answer) };
    } catch (error) {
      if (!(error instanceof RpcError)) return { raised: String(error) };
      return { code: error.code, message: error.message, data: error.data ?? "" };
    }
  }

  for (const [name, method] of Object.entries(methods)) {
    room.localParticipant.registerRpcMethod(`conform.${name}`, method);
  }
}
