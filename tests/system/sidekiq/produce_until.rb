# Enqueues jobs that take a moment, without a pause, until the file is there. Prints one line of JSON: how many.
require "json"
require_relative "jobs"

prefix, path = ARGV
count = 0
until File.exist?(path)
  NapJob.perform_async("#{prefix}-#{count}")
  count += 1
  sleep 0.004
end
puts JSON.generate(count: count)
