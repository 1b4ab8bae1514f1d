/**
 * Types of everything a PocketCI pipeline finds in its world.
 *
 * `pocketci init` copies this file beside a new pipeline. It needs no DOM library: what a pipeline has of the web's
 * own API (`fetch`, `URL`, `setTimeout`, `crypto`…) is declared here, exactly as far as it exists.
 */

/** A duration: `"90s"`, `"1h30m"`, `"500ms"`, or a number of milliseconds. */
type Duration = string | number;

/** Standard output or standard error. */
type OutputStream = "stdout" | "stderr";

// ─── Steps ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** A program and its arguments; no shell splits them. */
interface Command {
  /** The program, for example `sh`. */
  path: string;
  /** Its arguments, each exactly as given. */
  args?: string[];
  /** User inside the container: a name, `uid` or `uid:gid`. Natively the agent must run as root. */
  user?: string;
}

/** What a container may use. */
interface ContainerLimits {
  /** Docker's CPU shares, a relative weight (1024 is usual). */
  cpu?: number;
  /** Memory in bytes, or a size such as `"512MB"`. */
  memory?: number | string;
}

/** Credentials of an image registry. Give the password as `"secret:NAME"`. */
interface RegistryAuth {
  username: string;
  password: string;
  /** Which registry; taken from the image's name when absent. */
  registry?: string;
}

/** What a container is made of. */
interface ContainerConfig {
  /** Shown in the log and in `pocketci runs show`. */
  name?: string;
  /** Container image. The docker driver needs it, the native driver ignores it. */
  image?: string;
  /**
   * Environment. A value `"secret:NAME"` is replaced by that secret, for this step only; the log and every result
   * show `***` in its place.
   */
  env?: Record<string, string>;
  /**
   * Volumes, and files of the webhook, by path: relative to the working directory, or absolute if it starts with `/`
   * (docker). A file needs a folder in which no volume is mounted: `{ "in/photo": http.request().files[0] }`.
   */
  mounts?: Record<string, Volume | string | ReceivedFile>;
  /**
   * Working directory. Docker: the image's own, or `/workspace` if there are relative mounts; a relative one lies below
   * `/workspace`. Native: a fresh directory of the step's own; a relative one lies below it.
   */
  workDir?: string;
  /** See {@link ContainerLimits}; docker only. */
  containerLimits?: ContainerLimits;
  /** All capabilities and devices; docker only, and the agent must run with `--allow-privileged`. */
  privileged?: boolean;
  /** When to pull the image: if the engine does not have it (default), always, or never. */
  pull?: "missing" | "always" | "never";
  /** For images that cannot be pulled anonymously. */
  registryAuth?: RegistryAuth;
  /** `false` gives the container no network at all; docker only. Default `true`. */
  network?: boolean;
}

/** A process to run. */
interface ProcessConfig {
  command: Command;
  /** Fed to the process, then closed; absent is no input at all. */
  stdin?: string | Uint8Array | ArrayBuffer;
  /** The step is stopped after this time and resolves with `status: "abort"`. */
  timeout?: Duration;
  /** Called with every piece of output, in the order it was read; secrets are masked. */
  onOutput?: (stream: OutputStream, text: string) => void;
  /** `true` rejects with a {@link StepError} when the exit code is not 0 or the step was stopped. Default `false`. */
  failOnError?: boolean;
}

/** The argument of `runtime.run`. */
interface RunConfig extends ContainerConfig, ProcessConfig {
  /** Run it again, at most this many times, while it fails (exit code, or it could not be started). Default 0. */
  retries?: number;
}

/** How a step ended. */
interface RunResult {
  /** Exit code; 128 + N for a process killed by signal N; 0 when aborted. */
  code: number;
  /** What it printed; of more than 1 MiB the head and the tail are kept, and the gap is told. */
  stdout: string;
  /** See `stdout`. */
  stderr: string;
  /** `complete`: it ended by itself, whatever the code. `abort`: its timeout or the run's end stopped it. */
  status: "complete" | "abort";
  /** RFC 3339. */
  startedAt: string;
  /** RFC 3339. */
  endedAt: string;
  /** From start to end. */
  durationMs: number;
  /** How often it was run: 1 + the retries that were needed. */
  attempts: number;
}

/** What `failOnError` rejects with. */
interface StepError extends Error {
  name: "StepError";
  result: RunResult;
}

/** A container (or, natively, a directory) that stays for several commands. */
interface Sandbox {
  /** For the log. */
  readonly id: string;
  /** Runs a command in it. Environment and directory of one command do not carry over to the next. */
  exec(config: ProcessConfig & { env?: Record<string, string>; workDir?: string }): Promise<RunResult>;
  /** Removes it. It is removed at the end of the job at the latest. */
  close(): Promise<void>;
}

/** Starts steps. */
declare const runtime: {
  /**
   * Runs a program to its end.
   *
   * @example
   * const test = await runtime.run({
   *   name: "test",
   *   image: "golang:1.22",
   *   command: { path: "go", args: ["test", "./..."] },
   * });
   * if (test.code !== 0) throw new Error("the tests failed");
   */
  run(config: RunConfig): Promise<RunResult>;
  /**
   * Starts a sandbox; the image needs `tail`.
   *
   * @example
   * const box = await runtime.startSandbox({ image: "alpine" });
   * await box.exec({ command: { path: "touch", args: ["/tmp/a"] } });
   * await box.close();
   */
  startSandbox(config: ContainerConfig): Promise<Sandbox>;
};

/** Files that several steps of one run share; removed at the end of the job. */
interface Volume {
  readonly name: string;
  /** For people: the directory on the agent (native), the volume's name in the engine (docker). */
  readonly path: string;
  /** Reads regular files as text (UTF-8), 10 MiB in all. A missing file rejects. */
  readFiles(paths: string[]): Promise<Record<string, string>>;
}

declare const volumes: {
  /**
   * Creates a volume. The same name in one run is the same volume.
   *
   * @example
   * const source = await volumes.create({ name: "source" });
   * await runtime.run({
   *   image: "alpine",
   *   command: { path: "sh", args: ["-c", "echo hi > source/greeting"] },
   *   mounts: { source },
   * });
   * const files = await source.readFiles(["greeting"]);
   */
  create(config?: {
    name?: string;
    /** Taken for compatibility; volumes are as large as the disk. */
    size?: number;
  }): Promise<Volume>;
  /** See {@link Volume.readFiles}. */
  readFiles(volume: Volume | string, paths: string[]): Promise<Record<string, string>>;
};

// ─── The webhook ─────────────────────────────────────────────────────────────────────────────────────────────────

/** The request that started the run. */
interface HttpRequest {
  /** `github`, `slack` or `generic`. */
  provider: string;
  /** For example `push`; empty for `generic`. */
  eventType: string;
  method: string;
  /** Path with query, as received. */
  url: string;
  /** Any spelling of a name finds it; iteration gives lower case. Repeated lines are joined. */
  headers: Record<string, string>;
  /** The raw text; of bytes that are not UTF-8 (see `bodyEncoding`) one character each. */
  body: string;
  /** Decoded; of a repeated name the first value. */
  query: Record<string, string>;
  /** All values of each header, in order; lower-case names. */
  headersAll: Record<string, string[]>;
  /** All values of each name in the query, in order. */
  queryAll: Record<string, string[]>;
  /** As it came, without `?`. */
  rawQuery: string;
  /** Empty if there was none. */
  contentType: string;
  /** The provider's id of the delivery, the same when it sends again. */
  deliveryId?: string;
  /** Which try of the provider it is, from 1, if it says so. */
  attempt?: number;
  /** Whether a secret was checked and fits. */
  verified: boolean;
  /** Fingerprint of that secret. */
  secretId?: string;
  remoteAddr: string;
  /** RFC 3339. */
  receivedAt?: string;
  /** Files of a `multipart/form-data` body, in order. */
  files: ReceivedFile[];
  /** The whole body as a file: for large ones, and to be mounted. */
  readonly bodyFile: ReceivedFile;
  /** `binary` if the body is not UTF-8. */
  readonly bodyEncoding: "utf-8" | "binary";
  readonly bodyBase64: string;
  /** Fields of a form; a name that comes twice is a list. `null` if the body is no form. */
  readonly form: Record<string, string | string[]> | null;
  /** The body as JSON, or the JSON in a form's field `payload`; `null` if there is none. */
  readonly payload: any;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** A file in the webhook's body; also a value of `mounts`, which puts it at that path of a step. */
interface ReceivedFile {
  /** Of the form's field. */
  name: string;
  /** As the sender named it: never use it as a path. */
  filename: string;
  /** As the sender says; empty if it says none. */
  contentType: string;
  /** Bytes. */
  size: number;
  /** In hex. */
  sha256: string;
  text(): Promise<string>;
  json(): Promise<any>;
  bytes(): Promise<Uint8Array>;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** The answer to the caller. */
interface HttpResponse {
  /** 200 to 599; default 200. */
  status?: number;
  headers?: Record<string, string>;
  body?: string | Uint8Array | ArrayBuffer;
  /** Instead of `body`. */
  bodyBase64?: string;
}

declare const http: {
  /** The webhook's request; `undefined` in a run that no webhook started. */
  request(): HttpRequest | undefined;
  /**
   * Answers the caller; the pipeline goes on. Only the first call counts; without a webhook nothing happens.
   *
   * @example
   * http.respond({ status: 200, body: "ok" });
   */
  respond(response: HttpResponse): void;
};

/**
 * Whether the webhook matches an expression (expr-lang or CEL) over `provider`, `eventType`, `method`, `headers`
 * (lower-case names), `query`, `body` and `payload`. `true` in a run that no webhook started; `false`, with a line
 * in the log, if the expression is wrong.
 *
 * @example
 * if (!webhookTrigger('eventType == "push" && payload.ref == "refs/heads/main"')) return;
 */
declare function webhookTrigger(expression: string): boolean;

/**
 * Values taken out of the webhook by expressions; see {@link webhookTrigger}. An expression that fails is left out,
 * with a line in the log. `{}` without a webhook. What is no text is written as JSON.
 *
 * @example
 * const { BRANCH } = webhookParams({ BRANCH: 'payload.ref' });
 */
declare function webhookParams(expressions: Record<string, string>): Record<string, string>;

/**
 * Whether this pipeline has seen a webhook with the same key in the last seven days. The first one to ask is told
 * `false`, all others `true`, on whatever agents they run. `false` without a webhook, for an empty key and for a wrong
 * expression (with a line in the log).
 *
 * @example
 * if (webhookDedup('headers["x-github-delivery"]')) return;
 */
declare function webhookDedup(expression: string): boolean;

/** What this run is. */
declare const pipelineContext: {
  readonly runID: string;
  readonly pipelineID: string;
  readonly pipelineName: string;
  /** The same as `pipelineName`. */
  readonly name: string;
  /** `pipeline`: another pipeline's `triggerPipeline`. */
  readonly triggeredBy: "webhook" | "manual" | "pipeline";
  /** Arguments of the trigger. */
  readonly args: readonly string[];
  /** Jobs that were asked for. */
  readonly targetJobs: readonly string[];
  readonly driverName: "docker" | "native";
  /** 1, or more if an agent was lost and the job was started again. */
  readonly attempt: number;
};

/**
 * Starts a run of another pipeline and resolves once it is stored; it does not wait for its end. A job that is
 * attempted again after its agent was lost does not start a second one.
 */
declare function triggerPipeline(
  name: string,
  options?: { jobs?: string[]; args?: string[] },
): Promise<{ runID: string }>;

// ─── Order and approval ──────────────────────────────────────────────────────────────────────────────────────────

/** What a gate resolves to. */
interface GateDecision {
  /** Who approved. */
  by: string;
  /** When, RFC 3339. */
  at: string;
  /** What they said. */
  comment: string;
}

/** What `gate` rejects with. */
interface GateError extends Error {
  name: "GateError";
  reason: "rejected" | "timeout";
  /** Who rejected. */
  by: string;
  comment: string;
}

/** What `stage` rejects with: its message names the jobs that failed, its `cause` is the first one's error. */
interface StageError extends Error {
  name: "StageError";
  /** What each failed job threw. */
  errors: unknown[];
}

interface PipelineGlobal {
  /**
   * Runs the jobs that `define` names side by side and waits for all of them; rejects if any of them fails.
   *
   * @example
   * await stage("test", ({ job }) => {
   *   job("unit", () => runtime.run({ command: { path: "true" }, failOnError: true }));
   *   job("lint", () => runtime.run({ command: { path: "true" }, failOnError: true }));
   * });
   */
  stage(name: string, define: (stage: { job(name: string, run: () => unknown): void }) => void): Promise<void>;
  /**
   * Waits until somebody approves (`pocketci gates approve`, or the API). Rejects with a {@link GateError} when it is
   * rejected or the time is over (default 24 h, at most 90 days).
   *
   * @example
   * const { by } = await gate("production", { message: "deploy 1.2?", timeout: "2h" });
   */
  gate(name: string, options?: { message?: string; timeout?: Duration }): Promise<GateDecision>;
}

/**
 * The same as the functions {@link stage} and {@link gate}. A module's own `const pipeline` hides it (and gets both
 * members at run time, which TypeScript cannot know): there the plain functions read best.
 */
declare const pipeline: PipelineGlobal;
/** See {@link PipelineGlobal.stage}. */
declare const stage: PipelineGlobal["stage"];
/** See {@link PipelineGlobal.gate}. */
declare const gate: PipelineGlobal["gate"];

// ─── The world outside ───────────────────────────────────────────────────────────────────────────────────────────

declare class Headers {
  constructor(init?: Headers | Record<string, string> | [string, string][]);
  append(name: string, value: string): void;
  delete(name: string): void;
  get(name: string): string | null;
  has(name: string): boolean;
  set(name: string, value: string): void;
  forEach(callback: (value: string, name: string, headers: Headers) => void): void;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  entries(): IterableIterator<[string, string]>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
}

declare class Response {
  constructor(
    body?: string | Uint8Array | ArrayBuffer | null,
    init?: { status?: number; statusText?: string; headers?: Headers | Record<string, string> },
  );
  readonly status: number;
  readonly statusText: string;
  /** 200 to 299. */
  readonly ok: boolean;
  readonly headers: Headers;
  /** Where it came from in the end. */
  readonly url: string;
  readonly redirected: boolean;
  readonly bodyUsed: boolean;
  text(): Promise<string>;
  json(): Promise<any>;
  arrayBuffer(): Promise<ArrayBuffer>;
  bytes(): Promise<Uint8Array>;
  clone(): Response;
}

interface FetchOptions {
  /** Default `GET`. */
  method?: string;
  /** A value `"secret:NAME"` or `"Bearer secret:NAME"` carries that secret. */
  headers?: Headers | Record<string, string> | [string, string][];
  body?: string | Uint8Array | ArrayBuffer | URLSearchParams | null;
  /** Milliseconds for the whole exchange; default and most: the agent's `--fetch-timeout` (30 s). */
  timeout?: number;
  signal?: AbortSignal;
  /** `follow` (default) goes on, at most 10 times; `manual` resolves with the redirect itself; `error` rejects. */
  redirect?: "follow" | "error" | "manual";
}

/**
 * An HTTP request from the agent. Rejects with a `TypeError` when there is no answer, a `TimeoutError` when it takes too
 * long, and the signal's reason when it is aborted; any status resolves. Private, loopback and metadata addresses are refused unless the agent's operator
 * allows them (`--fetch-allow`).
 *
 * @example
 * const response = await fetch("https://api.example.com/status");
 * if (!response.ok) throw new Error(`status ${response.status}`);
 * const status = await response.json();
 */
declare function fetch(url: string | URL, options?: FetchOptions): Promise<Response>;

interface WebhookConfig {
  url: string;
  /** An object is sent as JSON, a text as it is. */
  body?: unknown;
  /** Default `POST`. */
  method?: string;
  headers?: Record<string, string>;
  /** `"secret:NAME"`, or the text itself. */
  secret?: string;
  /** `false` resolves at once; the delivery still ends before the run does, a failure is a line in the log. */
  wait?: boolean;
  /** Tries after the first one; default 3, at most 10. */
  retries?: number;
  /** For each try; default 10 s. */
  timeout?: Duration;
}

/** A delivery that was taken (status 200 to 299). */
interface WebhookDelivery {
  /** `webhook-id` of every try; a job that is attempted again uses the same one. */
  id: string;
  status: number;
  attempts: number;
  /** The answer's first 64 KiB. */
  body: string;
}

/** What `webhook.send` rejects with when the receiver answered, but not with 200 to 299. */
interface WebhookError extends Error {
  name: "WebhookError";
  id: string;
  status: number;
  attempts: number;
  body: string;
}

declare const webhook: {
  /**
   * Calls another system's webhook: a POST with the body (an object is sent as JSON), signed with the secret as
   * `X-Webhook-Signature` (hex HMAC-SHA256 of the body) and as Standard Webhooks (`webhook-id`, `webhook-timestamp`,
   * `webhook-signature`). Tried again after network errors, 408, 425, 429 and 5xx, with the same `webhook-id`. Rejects with
   * a {@link WebhookError} when the receiver does not take it, with an `Error` when it cannot be reached.
   *
   * @example
   * await webhook.send({ url: "https://example.com/hook", body: { ok: true }, secret: "secret:HOOK" });
   */
  send(config: WebhookConfig & { wait: false }): Promise<{ id: string }>;
  send(config: WebhookConfig): Promise<WebhookDelivery>;
};

declare const event: {
  /**
   * Records an event of this run, for those who follow it (`GET /api/runs/:id/events`, `pocketci runs watch`).
   *
   * @example
   * await event.emit("deployed", { version: "1.2.3" });
   */
  emit(name: string, payload?: unknown): Promise<void>;
};

/**
 * A way to tell people. Any text may be `"secret:NAME"`, looked up when a message is sent. `url` of slack and discord is the
 * base of the API, for gateways. Texts here are not templates; the message is one.
 */
type NotifyBackend =
  | { type: "slack"; token: string; channels: string[]; recipients?: string[]; url?: string }
  | { type: "teams"; webhook: string }
  | { type: "discord"; token: string; channels: string[]; url?: string }
  | { type: "http"; url: string; method?: string; headers?: Record<string, string> }
  | {
      type: "smtp";
      /** `host:port`. */
      smtpHost: string;
      from: string;
      recipients: string[];
      username?: string;
      token?: string;
      /** How the connection is secured; default `starttls`, on port 465 `tls`. */
      tls?: "starttls" | "tls" | "none";
      subject?: string;
    };

/** What message templates may name. */
interface NotifyContext {
  pipelineName?: string;
  jobName?: string;
  buildID?: string;
  status?: string;
  startTime?: string;
  endTime?: string;
  duration?: string;
  environment?: Record<string, string>;
  taskResults?: Record<string, unknown>;
}

/**
 * Messages to people. A message is a template: `{{ JobName }}` and Go's `{{ .JobName }}` mean the same; fields are
 * `PipelineName`, `JobName`, `BuildID`, `Status`, `StartTime`, `EndTime`, `Duration`, `Environment`, `TaskResults`.
 */
declare const notify: {
  configure(config: { backends?: Record<string, NotifyBackend>; context?: NotifyContext }): void;
  setConfigs(backends: Record<string, NotifyBackend>): void;
  setContext(context: NotifyContext): void;
  updateContext(context: NotifyContext): void;
  updateStatus(status: string): void;
  updateJobName(name: string): void;
  /** Rejects with `{ success: false, error }`; with `async` it resolves at once and a failure is a line in the log. */
  send(message: { name: string; message: string; async?: boolean }): Promise<{ success: true }>;
  sendMultiple(message: { names: string[]; message: string; async?: boolean }): Promise<{ success: true }>;
};

/**
 * Values (JSON) that outlive the run, of this pipeline alone. At most 1 MiB a value, 1 000 keys.
 *
 * @example
 * const last = storage.get("last-deploy") ?? { count: 0 };
 * storage.set("last-deploy", { count: last.count + 1 });
 */
declare const storage: {
  /** `null` if there is none. */
  get(key: string): any;
  /** JSON merge patch (RFC 7396): objects are merged, `null` removes a member, anything else replaces. */
  set(key: string, value: unknown): void;
  /** Replaces the value whole. */
  put(key: string, value: unknown): void;
  delete(key: string): boolean;
  /** Keys with a prefix, in order. */
  list(prefix?: string): string[];
  /** Values of keys with a prefix, each with only these members if any are named. */
  getAll(prefix: string, fields?: string[]): { path: string; payload: any }[];
};

// ─── Tools ───────────────────────────────────────────────────────────────────────────────────────────────────────

declare const yaml: {
  /** Throws a `SyntaxError` that names line and column. */
  parse(text: string): any;
  stringify(value: unknown): string;
};
/** @deprecated Use `yaml`. */
declare const YAML: typeof yaml;

/** What a failing assertion throws; `try`/`catch` works as with any error. */
declare class AssertionError extends Error {
  readonly actual: unknown;
  readonly expected: unknown;
}

declare const assert: {
  /** Deep equality. */
  equal(actual: unknown, expected: unknown, message?: string): void;
  notEqual(actual: unknown, expected: unknown, message?: string): void;
  /** `pattern` is a regular expression, as text or object. */
  containsString(text: string, pattern: string | RegExp, message?: string): void;
  truthy(value: unknown, message?: string): void;
  containsElement(array: readonly unknown[], element: unknown, message?: string): void;
  /** Asks again until the text matches; await it, so that steps go on meanwhile. */
  eventuallyContainsString(
    getter: () => string | Promise<string>,
    pattern: string | RegExp,
    options?: { timeoutMs?: number; intervalMs?: number; message?: string },
  ): Promise<void>;
};

/** Lines of the run's log. The first text may have `%s %d %i %f %j %o %O %%`, as in Node. */
declare const console: {
  log(...values: unknown[]): void;
  info(...values: unknown[]): void;
  debug(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
};

declare function setTimeout(callback: (...args: any[]) => void, ms?: number, ...args: any[]): number;
declare function setInterval(callback: (...args: any[]) => void, ms?: number, ...args: any[]): number;
declare function clearTimeout(id: number | undefined): void;
declare function clearInterval(id: number | undefined): void;
declare function queueMicrotask(callback: () => void): void;
declare function structuredClone<T>(value: T): T;
declare function atob(base64: string): string;
declare function btoa(latin1: string): string;

declare const performance: {
  /** Milliseconds since the pipeline began, monotonic. */
  now(): number;
  readonly timeOrigin: number;
};

declare class URLSearchParams {
  constructor(init?: string | URLSearchParams | Record<string, string> | [string, string][]);
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string, value?: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string, value?: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  forEach(callback: (value: string, name: string, params: URLSearchParams) => void): void;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  entries(): IterableIterator<[string, string]>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
  toString(): string;
}

declare class URL {
  constructor(url: string | URL, base?: string | URL);
  static canParse(url: string, base?: string): boolean;
  static parse(url: string, base?: string): URL | null;
  href: string;
  readonly origin: string;
  protocol: string;
  username: string;
  password: string;
  host: string;
  hostname: string;
  port: string;
  pathname: string;
  search: string;
  readonly searchParams: URLSearchParams;
  hash: string;
  toString(): string;
  toJSON(): string;
}

declare class TextEncoder {
  readonly encoding: "utf-8";
  encode(text?: string): Uint8Array;
}

declare class TextDecoder {
  constructor(label?: "utf-8" | "utf8" | "latin1" | string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  readonly encoding: string;
  decode(bytes?: Uint8Array | ArrayBuffer): string;
}

declare class AbortSignal {
  static abort(reason?: unknown): AbortSignal;
  static timeout(ms: number): AbortSignal;
  static any(signals: AbortSignal[]): AbortSignal;
  readonly aborted: boolean;
  readonly reason: any;
  onabort: ((event: { type: "abort" }) => void) | null;
  throwIfAborted(): void;
  addEventListener(type: "abort", listener: (event: { type: "abort" }) => void, options?: { once?: boolean }): void;
  removeEventListener(type: "abort", listener: (event: { type: "abort" }) => void): void;
}

declare class AbortController {
  readonly signal: AbortSignal;
  abort(reason?: unknown): void;
}

type HashName = "SHA-1" | "SHA-256" | "SHA-384" | "SHA-512" | (string & {});

/** An HMAC key. */
interface CryptoKey {
  readonly type: "secret";
  readonly algorithm: { name: "HMAC"; hash: { name: string }; length: number };
  readonly extractable: boolean;
  readonly usages: string[];
}

declare const crypto: {
  randomUUID(): string;
  /** At most 65 536 bytes at a time. */
  getRandomValues<T extends Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array>(array: T): T;
  readonly subtle: {
    digest(algorithm: HashName | { name: HashName }, data: Uint8Array | ArrayBuffer): Promise<ArrayBuffer>;
    importKey(
      format: "raw",
      key: Uint8Array | ArrayBuffer,
      algorithm: { name: "HMAC"; hash: HashName | { name: HashName } },
      extractable: boolean,
      usages: ("sign" | "verify")[],
    ): Promise<CryptoKey>;
    sign(algorithm: "HMAC" | { name: "HMAC" }, key: CryptoKey, data: Uint8Array | ArrayBuffer): Promise<ArrayBuffer>;
    verify(
      algorithm: "HMAC" | { name: "HMAC" },
      key: CryptoKey,
      signature: Uint8Array | ArrayBuffer,
      data: Uint8Array | ArrayBuffer,
    ): Promise<boolean>;
  };
};

/** `import data from "./data.json"`; the file is taken in when the pipeline is set. */
declare module "*.json" {
  const value: any;
  export default value;
}
declare module "*.yaml" {
  const value: any;
  export default value;
}
declare module "*.yml" {
  const value: any;
  export default value;
}
