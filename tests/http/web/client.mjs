// Calls a service by gRPC-Web with the unchanged client of connect-web. Reads one line of JSON: the service,
// its descriptors, and the calls to make. Prints the outcome of each call.
import { createInterface } from "node:readline";
import { createFileRegistry, fromBinary, fromJson, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

async function outcome(registry, baseUrl, call) {
  const service = registry.getService(call.service);
  const method = service.method[call.method];
  const client = createClient(service, createGrpcWebTransport({ baseUrl }));
  const names = { registry, useProtoFieldName: true }; // the descriptors of Python name no JSON names
  const found = {};
  const options = {
    headers: call.headers,
    timeoutMs: call.timeoutMs,
    onHeader: (headers) => (found.headers = Object.fromEntries(headers)),
    onTrailer: (trailers) => (found.trailers = Object.fromEntries(trailers)),
  };
  const request = fromJson(method.input, call.request);
  try {
    if (method.methodKind === "unary") {
      found.response = toJson(method.output, await client[call.method](request, options), names);
    } else {
      found.responses = [];
      for await (const response of client[call.method](request, options)) {
        found.responses.push(toJson(method.output, response, names));
        if (found.responses.length === call.take) break;
      }
    }
  } catch (error) {
    Object.assign(found, { code: error.code, message: error.rawMessage, metadata: Object.fromEntries(error.metadata ?? []) });
  }
  return found;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { baseUrl, descriptors, calls } = JSON.parse(line);
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, Buffer.from(descriptors, "base64")));
  const outcomes = [];
  for (const call of calls) outcomes.push(await outcome(registry, baseUrl, call));
  console.log(JSON.stringify(outcomes));
}
process.exit(0);
