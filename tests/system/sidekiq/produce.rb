# Enqueues every kind of job and prints one line of JSON: the tags that must run, and those that must fail once.
require "json"
require_relative "jobs"

prefix, scale = ARGV[0], Integer(ARGV[1])
ran, failed = [], []
tag = ->(kind, n) { "#{prefix}-#{kind}-#{n}".tap { |t| ran << t } }

(20 * scale).times { |n| PlainJob.perform_async(tag["plain", n]) }
(10 * scale).times { |n| CriticalJob.perform_async(tag["critical", n]) }
(10 * scale).times { |n| LowJob.perform_async(tag["low", n], "é\\\"\r\n" * n) }
2.times { |n| PlainJob.perform_async(tag["big", n], "x" * 300_000) }
Sidekiq::Client.push_bulk("class" => PlainJob, "args" => (0...30 * scale).map { |n| [tag["bulk", n]] })
(3 * scale).times { |n| LowJob.perform_in(1 + n * 0.1, tag["scheduled", n]) }
2.times { |n| ParentJob.perform_async(tag["parent", n], 5).tap { 5.times { |c| ran << "#{ran.last[/\A.*parent-\d+/]}.#{c}" } } }
5.times { |n| FlakyJob.perform_async(tag["flaky", n].tap { |t| failed << t }) }
2.times { |n| DoomedJob.perform_async("#{prefix}-doomed-#{n}".tap { |t| failed << t }) }

puts JSON.generate(ran: ran, failed: failed)
