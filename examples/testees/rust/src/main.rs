//! A testee for `rpcproto conform`, over a pipe: the crates that are the core of LiveKit's native SDKs.
//!
//!     cargo build --release --manifest-path examples/testees/rust/Cargo.toml
//!     rpcproto conform --exec examples/testees/rust/target/release/testee

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::time::Duration;

use livekit_common::{ClientCapability, EncryptionType, ParticipantIdentity, RemoteParticipantRegistry};
use livekit_data_stream::api::{AnyStreamReader, SendTextOptions, StreamReader, StreamResult, TextStreamInfo};
use livekit_data_stream::backend::incoming::{InputEvent, Manager as Incoming, OutputEvent, PacketReceived};
use livekit_data_stream::backend::{outgoing::Manager as Outgoing, Packet};
use livekit_protocol::{self as proto, data_packet::Value, rpc_response};
use livekit_rpc::api::{PerformRpcData, RpcError, RpcInvocationData};
use livekit_rpc::backend::{
    HandleRequestOptions, RpcClientManager, RpcServerManager, RpcTransport, RpcTransportError, RPC_REQUEST_TOPIC,
    RPC_RESPONSE_TOPIC,
};
use prost::Message;
use serde_json::{json, Value as Json};
use sha2::{Digest, Sha256};

type Outcome = Result<String, RpcError>;

/// Who is here, and the way out.
struct Transport {
    remotes: Mutex<HashMap<String, (i32, Vec<i32>)>>,
    streams: Outgoing,
}

impl RemoteParticipantRegistry for Transport {
    fn remote_client_protocol(&self, identity: &ParticipantIdentity) -> i32 {
        self.remotes.lock().unwrap().get(&identity.0).map_or(0, |remote| remote.0)
    }
    fn remote_capabilities(&self, identity: &ParticipantIdentity) -> Vec<ClientCapability> {
        let remotes = self.remotes.lock().unwrap();
        let able = remotes.get(&identity.0).map_or(&[][..], |remote| &remote.1);
        able.iter().filter_map(|number| (*number).try_into().ok()).collect()
    }
    fn remote_identities(&self) -> Vec<ParticipantIdentity> {
        self.remotes.lock().unwrap().keys().cloned().map(ParticipantIdentity).collect()
    }
}

impl RpcTransport for Transport {
    async fn publish_data(&self, packet: proto::DataPacket) -> Result<(), RpcTransportError> {
        write(&packet.encode_to_vec());
        Ok(())
    }
    async fn send_text(&self, text: &str, options: SendTextOptions) -> StreamResult<TextStreamInfo> {
        self.streams.send_text(text, options, self).await
    }
    fn server_version(&self) -> Option<String> {
        Some("1.13.5".into())
    }
}

struct Testee {
    client: RpcClientManager,
    server: RpcServerManager,
    transport: Transport,
    counts: Mutex<HashMap<String, u32>>,
}

impl Testee {
    async fn answer(&self, method: &str, payload: String) -> Outcome {
        let asked: Json = serde_json::from_str(&payload).unwrap_or_default();
        let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
        match method {
            "echo" => {
                *self.counts.lock().unwrap().entry(payload.clone()).or_default() += 1;
                Ok(payload)
            }
            "size" => Ok("x".repeat(payload.parse().unwrap_or(0))),
            "text" => Ok(text("text").repeat(asked["times"].as_u64().unwrap_or(1) as usize)),
            "fail" => Err(RpcError::new(asked["code"].as_u64().unwrap_or(0) as u32, text("message"), Some(text("data")))),
            "crash" => panic!("{payload}"),
            "wait" => {
                tokio::time::sleep(Duration::from_secs_f64(asked["seconds"].as_f64().unwrap_or(0.0))).await;
                Ok(text("answer"))
            }
            "count" => Ok(self.counts.lock().unwrap().get(&payload).copied().unwrap_or(0).to_string()),
            _ => Ok(self.call(&asked).await.to_string()),
        }
    }

    async fn call(&self, asked: &Json) -> Json {
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        let times = asked["times"].as_u64().unwrap_or(1) as usize;
        let mut data = PerformRpcData::new(text("destination"), text("method")).with_payload(text("payload").repeat(times));
        if let Some(timeout) = asked["response_timeout_ms"].as_u64() {
            data = data.with_response_timeout(Duration::from_millis(timeout));
        }
        match self.client.perform_rpc(data, &self.transport).await {
            Ok(answer) if asked["digest"] == true => {
                json!({"bytes": answer.len(), "sha256": format!("{:x}", Sha256::digest(&answer))})
            }
            Ok(answer) => json!({"payload": answer}),
            Err(error) => json!({"code": error.code, "message": error.message, "data": error.data.unwrap_or_default()}),
        }
    }

    async fn packet(&'static self, value: Value, sender: ParticipantIdentity) {
        match value {
            Value::RpcRequest(request) => {
                let options = HandleRequestOptions {
                    caller_identity: sender,
                    request_id: request.id,
                    method: request.method,
                    payload: request.payload,
                    response_timeout: Duration::from_millis(request.response_timeout_ms as u64),
                    version: request.version,
                };
                self.server.handle_v1_request(options, &self.transport).await;
            }
            Value::RpcAck(ack) => self.client.handle_incoming_rpc_ack(ack.request_id),
            Value::RpcResponse(response) => {
                let (payload, error) = match response.value {
                    Some(rpc_response::Value::Payload(payload)) => (Some(payload), None),
                    Some(rpc_response::Value::Error(error)) => (None, Some(error)),
                    _ => (None, None),
                };
                self.client.handle_v1_response_packet(response.request_id, payload, error);
            }
            _ => {}
        }
    }

    async fn stream(&'static self, reader: AnyStreamReader, sender: ParticipantIdentity) {
        if let AnyStreamReader::Text(reader) = reader {
            match reader.info().topic.as_str() {
                RPC_REQUEST_TOPIC => self.server.handle_v2_request_stream(reader, sender, &self.transport).await,
                RPC_RESPONSE_TOPIC => self.client.handle_v2_response_stream(reader).await,
                _ => {}
            }
        }
    }

    fn control(&self, told: &Json) -> Option<ParticipantIdentity> {
        let (joined, left) = (&told["joined"], &told["left"]);
        if let Some(identity) = joined["identity"].as_str() {
            let able = joined["capabilities"].as_array().into_iter().flatten();
            let able = able.filter_map(|number| Some(number.as_i64()? as i32)).collect();
            let protocol = joined["client_protocol"].as_i64().unwrap_or(0) as i32;
            self.transport.remotes.lock().unwrap().insert(identity.into(), (protocol, able));
        }
        let identity = ParticipantIdentity(left["identity"].as_str()?.into());
        self.transport.remotes.lock().unwrap().remove(&identity.0);
        self.client.handle_participant_disconnected(&identity);
        Some(identity)
    }
}

fn read() -> Option<Vec<u8>> {
    let mut length = [0; 4];
    std::io::stdin().read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    std::io::stdin().read_exact(&mut frame).ok()?;
    Some(frame)
}

fn write(frame: &[u8]) {
    let mut out = std::io::stdout().lock();
    let framed = [&(frame.len() as u32).to_be_bytes()[..], frame].concat();
    if out.write_all(&framed).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

#[tokio::main(flavor = "current_thread")] // tasks run in the order in which packets start them
async fn main() {
    let hello: Json = serde_json::from_slice(&read().expect("a hello")).expect("JSON");
    write(json!({"rpcproto": 1, "identity": hello["you"], "client_protocol": 2, "capabilities": [2]}).to_string().as_bytes());
    let (streams, mut leaving) = Outgoing::new();
    let (incoming, input, mut opened) = Incoming::new(None);
    let testee: &Testee = Box::leak(Box::new(Testee {
        client: RpcClientManager::new(),
        server: RpcServerManager::new(),
        transport: Transport { remotes: Default::default(), streams },
        counts: Default::default(),
    }));
    for method in ["echo", "size", "text", "fail", "crash", "wait", "count", "call"] {
        testee.server.register_method(format!("conform.{method}"), move |data: RpcInvocationData| {
            Box::pin(testee.answer(method, data.payload))
        });
    }
    tokio::spawn(incoming.run());
    tokio::spawn(async move {
        while let Ok((packets, responder)) = leaving.recv().await {
            packets.iter().for_each(|packet| write(&packet.encode_to_vec()));
            let _ = responder.respond(Ok(()));
        }
    });
    tokio::spawn(async move {
        while let Some(event) = opened.recv().await {
            if let OutputEvent::StreamOpened(stream) = event {
                tokio::spawn(testee.stream(stream.stream_reader, stream.participant_identity));
            }
        }
    });
    let (frames, mut taken) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || while let Some(frame) = read() { let _ = frames.send(frame); });
    while let Some(frame) = taken.recv().await {
        tokio::task::yield_now().await; // what the frame before has started has run as far as it can
        if frame.first() == Some(&b'{') {
            if let Some(left) = testee.control(&serde_json::from_slice(&frame).expect("JSON")) {
                let _ = input.send(InputEvent::AbortStreamsFrom(left));
            }
            continue;
        }
        let Ok(packet) = proto::DataPacket::decode(&frame[..]) else { continue };
        let sender = ParticipantIdentity(packet.participant_identity);
        let encryption_type = EncryptionType::None;
        let part = match packet.value {
            Some(Value::StreamHeader(header)) => Packet::Header { header: header.into(), encryption_type },
            Some(Value::StreamChunk(chunk)) => Packet::Chunk { chunk: chunk.into(), encryption_type },
            Some(Value::StreamTrailer(trailer)) => Packet::Trailer { trailer: trailer.into(), encryption_type },
            Some(value) => {
                tokio::spawn(testee.packet(value, sender));
                continue;
            }
            None => continue,
        };
        let _ = input.send(PacketReceived::new(part, sender).into());
    }
}
