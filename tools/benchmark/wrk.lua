-- wrk -s wrk.lua URL -- BODY_FILE [NAME VALUE]...: sends one body again and again, and tells the result as JSON.

function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.method = "POST"
   wrk.body = file:read("*a")
   file:close()
   for i = 2, #args, 2 do
      wrk.headers[args[i]] = args[i + 1]
   end
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format('RESULT {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "failed": %d}',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
