# Enqueues ARGV[0] jobs that take a moment each and prints their tags as one line of JSON.
require "json"
require_relative "jobs"

tags = (0...Integer(ARGV[0])).map { |n| "nap-#{n}" }
Sidekiq::Client.push_bulk("class" => NapJob, "args" => tags.map { |tag| [tag] })
puts JSON.generate(ran: tags)
