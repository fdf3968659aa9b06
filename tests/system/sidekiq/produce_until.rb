# Enqueues jobs that take a moment, without a pause, until the file is there. Prints one line of JSON: those whose push was
# acknowledged, and those whose push met a connection that ended.
require "json"
require_relative "jobs"

prefix, path = ARGV
pushed, unknown = [], []
until File.exist?(path)
  tag = "#{prefix}-#{pushed.size + unknown.size}"
  begin
    NapJob.perform_async(tag)
    pushed << tag
  rescue Redis::BaseConnectionError
    unknown << tag
  end
  sleep 0.004
end
puts JSON.generate(pushed: pushed, unknown: unknown)
