// Puts a file into DES and reads it back: node main.js 127.0.0.1:7420
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { FileService } from "./gen/des_proto/v1/file_service_pb.js";

const transport = createGrpcTransport({ baseUrl: `http://${process.argv[2]}`, defaultTimeoutMs: 30_000 });
const files = createClient(FileService, transport);

// A small file is one message. The request id makes a repeat of the same put harmless.
async function* messages() {
  yield {
    target: {
      case: "spec" as const,
      value: { contentType: "text/plain", requestId: "b1c8e6de-6c0f-4a76-8a51-2f8b1f1c9a10" },
    },
    chunk: { data: new TextEncoder().encode("hello from TypeScript") },
    finish: true,
  };
}

const stored = await files.putFile(messages());
if (stored.result.case !== "file") {
  throw new Error(`the upload is not finished: ${stored.result.case}`);
}
const { name } = stored.result.value;

let content = "";
const decoder = new TextDecoder();
for await (const part of files.getFile({ name })) {
  content += decoder.decode(part.chunk?.data, { stream: true });
}
console.log(name, content);
